-- results.popularity_errors: one row per popularity cell of results.cells, split and bucket of rows: a genre, or a
-- band of true popularity ten points wide ('40 to 49'; '90 to 100' is the last). Units: popularity points; bias is
-- predicted minus true.
with

rows as (
    select
        *,
        least(floor(y_true / 10), 9) * 10 as band,
        y_pred - y_true as error
    from results.predictions
    where task = 'popularity'
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
    avg(error) as bias
from buckets
group by all
