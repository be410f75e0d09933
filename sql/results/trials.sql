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
    feature_version,
    (
        select any_value(snapshots.source)
        from features.registry as registry
        inner join raw.snapshots as snapshots on registry.snapshot = snapshots.snapshot
        where registry.version = trials.feature_version
    ) as source
from stored_trials as trials
order by task, model, protocol, study, number
