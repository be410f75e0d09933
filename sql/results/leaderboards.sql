-- results.leaderboards: the leaderboard of every catalogue: results.figures with one column per metric, its 95 %
-- interval (_low, _high) and its standard deviation over seeds (_sd). Best first within each task and set of tracks: by
-- accuracy (genre), by RMSE (popularity); rank counts within catalogue, task, set of tracks, budget and protocol. A set
-- of tracks is a staging_version: what a source held at one time, with what was dropped from it. is_current: the row is
-- of results.leaderboard. is_generated marks results of the built-in sample, which say nothing about real music. Probes
-- and feature sets that hold a target are not listed: see results.leak_ledger.
with

wide as (
    select
        task,
        protocol,
        budget,
        model,
        feature_set,
        seed,
        seeds,
        {% for metric in metrics %}
        max(value) filter (where metric = '{{ metric }}') as {{ metric }},
        {% endfor %}
        {% for metric in metrics %}
        max(ci_low) filter (where metric = '{{ metric }}') as {{ metric }}_low,
        max(ci_high) filter (where metric = '{{ metric }}') as {{ metric }}_high,
        max(sd) filter (where metric = '{{ metric }}') as {{ metric }}_sd,
        {% endfor %}
        max(fit_seconds) as fit_seconds,
        max(predict_seconds) as predict_seconds,
        max(peak_rss_mb) as peak_rss_mb,
        max(n_train) as n_train,
        max(sampled_from) as sampled_from,
        any_value(sample_reason) as sample_reason,
        arg_max(source, started_at) as source,
        catalogue,
        any_value(is_current) as is_current,
        any_value(is_generated) as is_generated,
        any_value(snapshot) as snapshot,
        staging_version,
        max(started_at) as started_at,
        max(run_id) as run_id
    from results.figures
    where
        protocol in (select protocols.protocol from results.protocols as protocols where not protocols.is_probe)
        and feature_set in (select sets.feature_set from results.feature_sets as sets where sets.leaks is null)
    group by task, protocol, budget, model, feature_set, seed, seeds, catalogue, staging_version
),

ranked as (
    select
        task,
        rank() over (
            partition by task, catalogue, staging_version, budget, protocol
            order by accuracy desc nulls last, rmse
        ) as "rank",
        * exclude (task),
        first_value(staging_version) over (
            partition by catalogue, task, budget, protocol
            order by started_at desc, run_id desc
        ) as newest_tracks
    from wide
)

select * exclude (newest_tracks) replace ((is_current and staging_version = newest_tracks) as is_current)
from ranked
order by
    task,
    is_current desc,
    max(started_at) over (partition by catalogue) desc,
    catalogue,
    max(started_at) over (partition by catalogue, staging_version, budget) desc,
    staging_version,
    budget,
    protocol,
    "rank",
    model,
    feature_set
