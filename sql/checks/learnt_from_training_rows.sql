-- The fitted statistics are those of the training rows alone. Rows: the statistics that differ from that by more than
-- rounding. Fill values are compared with what the protocol's own SELECT gives if it sees the training rows alone
-- (features.refitted_fill_values), so that this holds for any rule of filling.
with

train as (
    select *
    from features.tracks_clean
    where split = 'train'
),

total_variance as (
    select
        {% for name in audio_features %}
            var_samp({{ name }}){{ " +" if not loop.last }}
        {% endfor %}
            as value
    from features.tracks_std
    where split = 'train'
),

learnt as (
    select
        feature_name,
        statistic,
        genre,
        value
    from features.statistics
    where statistic in ('fill', 'mean', 'std', 'explained_variance_ratio')
),

expected as (
    select
        feature_name,
        statistic,
        genre,
        value,
        1e-9 * (1 + abs(value)) as tolerance
    from features.refitted_fill_values
    {% for name in audio_features %}
        union all
        select
            '{{ name }}' as feature_name,
            'mean' as statistic,
            null as genre,
            avg({{ name }}) as value,
            1e-9 * (1 + abs(avg({{ name }}))) as tolerance
        from train
        union all
        select
            '{{ name }}' as feature_name,
            'std' as statistic,
            null as genre,
            stddev_pop({{ name }}) as value,
            1e-9 * (1 + stddev_pop({{ name }})) as tolerance
        from train
    {% endfor %}
    {% for component in components %}
        union all
        select
            '{{ component }}' as feature_name,
            'explained_variance_ratio' as statistic,
            null as genre,
            var_samp({{ component }}) / any_value(total_variance.value) as value,
            1e-6 as tolerance
        from features.tracks_pca
        cross join total_variance
        where split = 'train'
    {% endfor %}
)

select
    coalesce(expected.feature_name, learnt.feature_name) as feature_name,
    coalesce(expected.statistic, learnt.statistic) as statistic,
    learnt.value as learnt,
    expected.value as expected
from expected
full join learnt
    on
        expected.feature_name = learnt.feature_name
        and expected.statistic = learnt.statistic
        and expected.genre is not distinct from learnt.genre
where
    learnt.value is distinct from expected.value
    and not coalesce(abs(learnt.value - expected.value) <= expected.tolerance, false)
order by all
