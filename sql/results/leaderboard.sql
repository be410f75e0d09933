-- results.leaderboard: results.figures with one column per metric, its 95 % interval (_low, _high) and its standard
-- deviation over seeds (_sd). Best first within each task and set of tracks: by accuracy (genre), by RMSE
-- (popularity); rank counts within task, set of tracks, budget and protocol. A set of tracks is a staging_version: a
-- file with what was dropped from it. is_generated marks results of the built-in sample, which say nothing about real
-- music. Probes and feature sets that hold a target are not listed: see results.leak_ledger.
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
        any_value(source) as source,
        any_value(is_generated) as is_generated,
        any_value(snapshot) as snapshot,
        staging_version,
        max(started_at) as started_at,
        max(run_id) as run_id
    from results.figures
    where
        protocol in (select protocols.protocol from results.protocols as protocols where not protocols.is_probe)
        and feature_set in (select sets.feature_set from results.feature_sets as sets where sets.leaks is null)
    group by task, protocol, budget, model, feature_set, seed, seeds, staging_version
)

select
    task,
    rank() over (
        partition by task, staging_version, budget, protocol
        order by accuracy desc nulls last, rmse
    ) as "rank",
    * exclude (task)
from wide
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
