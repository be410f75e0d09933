-- results.genres: one row per genre cell of results.newest, split and genre: precision, recall, f1 (0 to 1) and n, the
-- genre's rows. From results.confusion.
{% from "results/cell.sql" import same_cell %}
with

counted as (
    select
        confusion.*,
        newest.budget,
        newest.is_generated,
        newest.staging_version
    from results.confusion as confusion
    inner join results.newest as newest
        on
            {{ same_cell('confusion', 'newest', has_task=false) }}
            and newest.task = 'genre'
),

sides as (
    select
        *,
        true_genre = predicted_genre as is_right,
        unnest(['true', 'predicted']) as side,
        unnest([true_genre, predicted_genre]) as genre
    from counted
)

select
    run_id,
    protocol,
    model,
    feature_set,
    seed,
    source,
    split,
    genre,
    coalesce(
        sum(n) filter (where side = 'predicted' and is_right) / nullif(sum(n) filter (where side = 'predicted'), 0), 0
    ) as "precision",
    coalesce(
        sum(n) filter (where side = 'true' and is_right) / nullif(sum(n) filter (where side = 'true'), 0), 0
    ) as recall,
    sum(n) filter (where is_right) / nullif(sum(n), 0) as f1,
    cast(sum(n) filter (where side = 'true') as bigint) as n,
    budget,
    is_generated,
    staging_version
from sides
group by all
