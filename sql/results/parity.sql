-- results.parity: one row per published figure that was reproduced: ours (newest run on the study's own file, budget
-- full, protocol published, seed 42) beside it. Empty for any other data.
-- tolerance: 0.003 (0.03 for rmse, mae) where the study's random stream can be repeated; 0.010 (0.10) for the forests,
-- XGBoost and the net.
with

ours as (
    select *
    from results.latest
    where
        is_study_file
        and budget = 'full'
        and protocol = 'published'
        and slice = 'all'
        and seed = 42
    qualify row_number() over (partition by task, model, feature_set, split, metric order by run_id desc) = 1
)

select
    published.task,
    published.model,
    published.feature_set,
    published.split,
    published.metric,
    ours.value as ours,
    published.value as published,
    ours.value - published.value as difference,
    case when published.model in ('random_forest', 'xgboost', 'multitask') then 0.010 else 0.003 end
    * case when published.metric in ('rmse', 'mae') then 10 else 1 end as tolerance,
    abs(difference) <= tolerance as is_within,
    ours.run_id,
    ours.source
from results.published as published
inner join ours
    on
        published.task = ours.task
        and published.model = ours.model
        and published.feature_set = ours.feature_set
        and published.split = ours.split
        and published.metric = ours.metric
order by published.task, published.feature_set, published.model, published.split, published.metric
