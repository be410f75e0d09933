-- features.scaling: mean and population standard deviation of each audio feature, learnt from the training rows.
-- Grain: feature_name, statistic ('mean', 'std'), in the feature's own unit.
with

learnt as (
    select
        {% for name in audio_features %}
        {'mean': avg({{ name }}), 'std': stddev_pop({{ name }})} as {{ name }},
        {% endfor %}
    from features.tracks_clean
    where split = 'train'
),

by_feature as (
    unpivot learnt
    on *
    into name feature_name value moments
)

select
    $protocol as protocol,
    feature_name,
    unnest(['mean', 'std']) as statistic,
    cast(null as varchar) as genre,
    unnest([moments.mean, moments.std]) as value
from by_feature
order by feature_name, statistic
