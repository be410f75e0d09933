-- results.genre_pairs: one row per genre cell of results.newest, split and pair of genres: confusion, the share of the
-- two genres' rows that are taken for the other of them, and accuracy_if_merged, the accuracy over all rows if the two
-- were one genre. Rap and Hip-Hop, which share recordings, is the pair to look at.
{% from "results/cell.sql" import identity, same_cell %}
with

counted as (
    select
        *,
        sum(n) over (partition by run_id, protocol, model, feature_set, seed, split) as n_rows,
        sum(n) filter (where true_genre = predicted_genre) over (
            partition by run_id, protocol, model, feature_set, seed, split
        ) as n_right,
        sum(n) over (partition by run_id, protocol, model, feature_set, seed, split, true_genre) as n_true
    from results.confusion
)

select
    {{ identity('a', has_task=false) }},
    a.split,
    a.true_genre as genre_a,
    b.true_genre as genre_b,
    (a.n + b.n) / nullif(a.n_true + b.n_true, 0) as confusion,
    (a.n_right + a.n + b.n) / a.n_rows as accuracy_if_merged,
    newest.budget,
    newest.is_generated,
    newest.staging_version
from counted as a
inner join counted as b
    on
        {{ same_cell('a', 'b', has_task=false) }}
        and a.split = b.split
        and a.true_genre = b.predicted_genre
        and a.predicted_genre = b.true_genre
        and a.true_genre < b.true_genre
inner join results.newest as newest
    on
        {{ same_cell('a', 'newest', has_task=false) }}
        and newest.task = 'genre'
