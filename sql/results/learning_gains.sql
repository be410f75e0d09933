-- results.learning_gains: one row per step of a curve of results.learning_curve, from rows_before to rows_after
-- training rows: what the added rows improved on the same test rows. gain is the growth of accuracy or the fall of
-- RMSE (higher is better for both), gain_low to gain_high its paired 95 % bootstrap interval, p_value two-sided for
-- "no gain". is_last: the step to the most rows that succeeded.
select
    run_id,
    protocol,
    task,
    model,
    feature_set,
    seed,
    budget,
    metric,
    rows_before,
    rows_after,
    value_b as value_before,
    value_a as value_after,
    if(metric in ({{ lower_is_better }}), value_b - value_a, value_a - value_b) as gain,
    if(metric in ({{ lower_is_better }}), -ci_high, ci_low) as gain_low,
    if(metric in ({{ lower_is_better }}), -ci_low, ci_high) as gain_high,
    p_value,
    rows_after = max(rows_after) over (
        partition by run_id, protocol, task, model, feature_set, seed, metric
    ) as is_last,
    source,
    is_generated,
    staging_version
from contrasted
order by run_id, protocol, task, model, feature_set, seed, metric, rows_after
