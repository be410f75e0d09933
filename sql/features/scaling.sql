-- features.scaling: mean and population standard deviation of each audio feature, fitted on the training rows and
-- rounded to 12 significant digits. Without rounding they would depend on the order of summation, and so on the number
-- of threads.
-- Grain: feature_name, statistic ('mean', 'std'), in the feature's own unit.
{% macro rounded(value) %}cast(printf('%.11e', {{ value }}) as double){% endmacro %}
{% macro from_mean(name) %}(train.{{ name }} - means.{{ name }}){% endmacro %}
with

train as (
    select *
    from features.tracks_clean
    where split = 'train'
),

means as (
    select
        {% for name in audio_features %}
            {{ rounded("favg(" ~ name ~ ")") }} as {{ name }},
        {% endfor %}
    from train
),

learnt as (
    select
        {% for name in audio_features %}
            {
                'mean': any_value(means.{{ name }}),
                'std': {{ rounded("sqrt(favg(" ~ from_mean(name) ~ " * " ~ from_mean(name) ~ "))") }}
            } as {{ name }},
        {% endfor %}
    from train
    cross join means
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
