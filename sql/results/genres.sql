-- results.genres: one row per genre cell of results.newest, split and genre: precision, recall, f1 (0 to 1) and n, the
-- genre's rows. From results.confusion.
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
            confusion.run_id = newest.run_id
            and confusion.protocol = newest.protocol
            and confusion.model = newest.model
            and confusion.feature_set = newest.feature_set
            and confusion.seed = newest.seed
            and newest.task = 'genre'
),

sides as (
    select
        run_id,
        protocol,
        model,
        feature_set,
        seed,
        split,
        budget,
        is_generated,
        staging_version,
        true_genre as genre,
        n as is_true,
        0 as is_predicted,
        case when true_genre = predicted_genre then n else 0 end as is_right
    from counted
    union all
    select
        run_id,
        protocol,
        model,
        feature_set,
        seed,
        split,
        budget,
        is_generated,
        staging_version,
        predicted_genre as genre,
        0 as is_true,
        n as is_predicted,
        0 as is_right
    from counted
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
    cast(sum(is_true) as bigint) as n,
    budget,
    is_generated,
    staging_version
from sides
group by all
