-- results.comparisons: one row per catalogue, set of tracks (staging_version), budget, protocol, task, feature set,
-- metric and pair of models: is one better on the same test rows? difference is model_a minus model_b, ci_low to
-- ci_high its 95 % paired bootstrap interval, p_value two-sided for "no difference", p_holm the same corrected for the
-- number of pairs of that protocol, task, feature set and metric. better is the model that wins at p_holm < 0.05, NULL
-- where neither does. Source: Holm (1979), A simple sequentially rejective multiple test procedure.
{% from "results/cell.sql" import division %}
{% set folds = division() ~ "," if has_folds is defined else "" %}
with

ranked as (
    select
        *,
        row_number() over family as place,
        count(p_value) over (
            partition by catalogue, staging_version, budget, protocol, task, feature_set, {{ folds }} metric
        ) as pairs
    from contrasted
    window family as (
        partition by catalogue, staging_version, budget, protocol, task, feature_set, {{ folds }} metric
        order by p_value nulls last, model_a, model_b
    )
),

corrected as (
    select
        *,
        case
            when p_value is not null
                then least(
                    1.0,
                    max(p_value * (pairs - place + 1)) over (
                        partition by catalogue, staging_version, budget, protocol, task, feature_set, {{ folds }} metric
                        order by place
                    )
                )
        end as p_holm
    from ranked
)

select
    protocol,
    task,
    feature_set,
    {{ folds }}
    metric,
    model_a,
    model_b,
    value_a,
    value_b,
    value_a - value_b as difference,
    ci_low,
    ci_high,
    p_value,
    p_holm,
    case
        when coalesce(p_holm, 1) >= 0.05 then null
        when (value_a > value_b) = (metric not in ({{ lower_is_better }})) then model_a
        else model_b
    end as better,
    budget,
    source,
    catalogue,
    is_generated,
    staging_version
from corrected
order by catalogue, staging_version, budget, protocol, task, feature_set, {{ folds }} metric, model_a, model_b
