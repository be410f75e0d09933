-- results.popularity_errors: one row per popularity cell of results.newest, split and bucket of rows: a genre, or a
-- band of true popularity ten points wide ('40 to 49'; '90 to 100' is the last). Units: popularity points; bias is
-- predicted minus true.
with

measured as (
    select
        result,
        unnest(popularity_errors, recursive := true)
    from stored_results
)

select
    newest.run_id,
    newest.protocol,
    newest.model,
    newest.feature_set,
    newest.seed,
    newest.source,
    measured.split,
    measured.bucket_by,
    measured.bucket,
    measured.n,
    measured.rmse,
    measured.mae,
    measured.bias,
    newest.budget,
    newest.is_generated,
    newest.staging_version
from results.newest as newest
inner join measured on newest.result = measured.result
where newest.task = 'popularity'
order by all
