-- results.genres: one row per genre cell of results.cells, split and genre: precision, recall, f1 (0 to 1) and n, the
-- genre's rows. From results.confusion.
with

sides as (
    select
        run_id,
        protocol,
        model,
        feature_set,
        seed,
        split,
        true_genre as genre,
        n as is_true,
        0 as is_predicted,
        case when true_genre = predicted_genre then n else 0 end as is_right
    from results.confusion
    union all
    select
        run_id,
        protocol,
        model,
        feature_set,
        seed,
        split,
        predicted_genre as genre,
        0 as is_true,
        n as is_predicted,
        0 as is_right
    from results.confusion
)

select
    run_id,
    protocol,
    model,
    feature_set,
    seed,
    split,
    genre,
    coalesce(sum(is_right) / nullif(sum(is_predicted), 0), 0) as "precision",
    coalesce(sum(is_right) / nullif(sum(is_true), 0), 0) as recall,
    2 * sum(is_right) / nullif(sum(is_true) + sum(is_predicted), 0) as f1,
    cast(sum(is_true) as bigint) as n
from sides
group by all
