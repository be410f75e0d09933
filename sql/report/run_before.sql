-- Of alerts: the newest completed run before $run_id of the same catalogue, budget and cells, failed ones included.
-- No row: there is none.
with

asked as (
    select
        run_id,
        list_sort(list(concat_ws('/', protocol, task, model, feature_set, seed))) as cells
    from results.cells
    group by run_id
),

runs as (
    select
        runs.run_id,
        runs.started_at,
        runs.status,
        runs.catalogue,
        runs.budget,
        asked.cells
    from results.runs as runs
    inner join asked on runs.run_id = asked.run_id
)

select before.run_id
from runs as before
inner join runs as this
    on
        before.catalogue = this.catalogue
        and before.budget = this.budget
        and before.cells = this.cells
        and before.started_at < this.started_at
where
    this.run_id = $run_id
    and before.status = 'completed'
order by before.started_at desc
limit 1
