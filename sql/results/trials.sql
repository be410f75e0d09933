-- results.trials: one row per trial of a search for a model's settings (flows/tune.py). value is the metric on the
-- validation split, NULL unless state is 'complete'; accuracy_plus_r2 is what multi-task nets are judged by. params is
-- every setting, searched for or not. Units: seconds the trial took in all.
select
    study,
    task,
    model,
    protocol,
    number,
    state,
    metric,
    value,
    seconds,
    cast(params as json) as params,
    started_at,
    feature_version
from stored_trials
order by task, model, protocol, study, number
