-- results.popularity_errors: one row per popularity cell of results.newest, split and bucket of rows: a genre, or a
-- band of true popularity ten points wide ('40 to 49'; '90 to 100' is the last). Units: popularity points; bias is
-- predicted minus true.
with

rows as (
    select
        predictions.*,
        newest.budget,
        newest.is_generated,
        newest.staging_version,
        least(floor(predictions.y_true / 10), 9) * 10 as band,
        predictions.y_pred - predictions.y_true as error
    from results.predictions as predictions
    inner join results.newest as newest
        on
            predictions.run_id = newest.run_id
            and predictions.protocol = newest.protocol
            and predictions.model = newest.model
            and predictions.feature_set = newest.feature_set
            and predictions.seed = newest.seed
            and newest.task = 'popularity'
    where predictions.task = 'popularity'
),

buckets as (
    select
        *,
        unnest(['genre', 'popularity']) as bucket_by,
        unnest([true_genre, printf('%d to %d', cast(band as integer), cast(if(band = 90, 100, band + 9) as integer))])
            as bucket
    from rows
)

select
    run_id,
    protocol,
    model,
    feature_set,
    seed,
    split,
    bucket_by,
    bucket,
    count(*) as n,
    sqrt(avg(error * error)) as rmse,
    avg(abs(error)) as mae,
    avg(error) as bias,
    budget,
    is_generated,
    staging_version
from buckets
group by all
