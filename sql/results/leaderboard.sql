-- results.leaderboard: results.leaderboards of the current catalogue (see results.catalogues): each model and feature
-- set once in each task, budget and protocol, on the newest tracks that have results there. Best first within each
-- task; rank counts within task, budget and protocol.
select * exclude (is_current)
from results.leaderboards
where is_current
order by
    task,
    max(started_at) over (partition by budget) desc,
    budget,
    protocol,
    "rank",
    model,
    feature_set
