-- results.leaderboard: the newest row of results.scores for each set of tracks, budget, protocol, task, model, feature
-- set and seed. Best first within each task and set of tracks: by accuracy (genre), by RMSE (popularity); rank counts
-- within task, set of tracks, budget and protocol. A set of tracks is a staging_version: a file with what was dropped
-- from it. is_generated marks results of the built-in sample, which say nothing about real music.
with

newest as (
    select *
    from results.scores
    qualify
        row_number() over (
            partition by staging_version, budget, protocol, task, model, feature_set, seed
            order by started_at desc, run_id desc
        ) = 1
)

select
    task,
    rank() over (
        partition by task, staging_version, budget, protocol
        order by accuracy desc nulls last, rmse
    ) as "rank",
    * exclude (task)
from newest
order by
    task,
    is_generated,
    max(started_at) over (partition by staging_version, budget) desc,
    staging_version,
    budget,
    protocol,
    "rank",
    model,
    feature_set
