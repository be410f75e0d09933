-- Of the report: one row per model that became champion for a task of the catalogue that run $run_id read, newest
-- first. is_of_run: the run left it. stands: it is the newest of its task.
select
    champions.task,
    champions.model,
    champions.feature_set,
    champions.protocol,
    champions.run_id,
    coalesce(champions.run_id = $run_id, false) as is_of_run,
    row_number() over (partition by champions.task order by champions.chosen_at desc) = 1 as stands,
    champions.chosen_at,
    champions.replaced,
    champions.reason,
    champions.log_loss,
    champions.log_loss_uncalibrated,
    champions.ece,
    champions.ece_uncalibrated,
    champions.half_width,
    champions.coverage_wanted,
    champions.coverage,
    champions.coverage_low,
    champions.coverage_high,
    champions.n_test
from results.champions as champions
inner join results.runs as runs on champions.catalogue = runs.catalogue
where runs.run_id = $run_id
order by champions.task, champions.chosen_at desc
