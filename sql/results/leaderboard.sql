-- results.leaderboard: one row per snapshot, budget, protocol, task, model, feature set and seed: the newest successful
-- cell on the test split, slice 'all'. Best first within each task and data: by accuracy (genre), by RMSE (popularity).
-- rank counts within task, snapshot, budget and protocol.
-- is_generated marks results of the built-in sample, which say nothing about real music.
with

scores as (
    select
        task,
        protocol,
        budget,
        model,
        feature_set,
        seed,
        max(value) filter (where metric = 'accuracy') as accuracy,
        max(value) filter (where metric = 'precision_macro') as precision_macro,
        max(value) filter (where metric = 'recall_macro') as recall_macro,
        max(value) filter (where metric = 'f1_macro') as f1_macro,
        max(value) filter (where metric = 'rmse') as rmse,
        max(value) filter (where metric = 'mae') as mae,
        max(value) filter (where metric = 'r2') as r2,
        max(value) filter (where metric = 'spearman') as spearman,
        any_value(fit_seconds) as fit_seconds,
        any_value(predict_seconds) as predict_seconds,
        any_value(peak_rss_mb) as peak_rss_mb,
        any_value(n_train) as n_train,
        any_value(source) as source,
        any_value(is_generated) as is_generated,
        snapshot,
        run_id
    from results.latest
    where
        split = 'test'
        and slice = 'all'
    group by task, protocol, budget, model, feature_set, seed, snapshot, run_id
)

select
    task,
    rank() over (
        partition by task, snapshot, budget, protocol
        order by accuracy desc nulls last, rmse
    ) as "rank",
    * exclude (task)
from scores
order by
    task,
    is_generated,
    max(run_id) over (partition by snapshot, budget) desc,
    snapshot,
    budget,
    protocol,
    "rank",
    model,
    feature_set
