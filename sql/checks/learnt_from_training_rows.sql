-- The fitted statistics are those of the training rows alone. Rows: the statistics that differ from that by more than
-- rounding.
with

train as (
    select *
    from features.tracks_clean
    where split = 'train'
),

staged as (
    select tracks.*
    from staging.stg_tracks as tracks
    inner join features.split_assignment as split on tracks.track_id = split.track_id
    where split.split = 'train'
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

expected as (
    select
        'mode_code' as feature_name,
        'fill' as statistic,
        avg(mode_code) as value,
        0.5 as tolerance
    from staged
    {% for name in audio_features if name not in ("key_code", "mode_code") %}
        union all
        select
            '{{ name }}' as feature_name,
            'fill' as statistic,
            avg({{ name }}) as value,
            {{ {"tempo": "0.001", "duration_ms": "1.0"}.get(name, "1e-9 * (1 + abs(avg(" ~ name ~ ")))") }} as tolerance
        from staged
    {% endfor %}
    {% for name in audio_features %}
        union all
        select
            '{{ name }}' as feature_name,
            'mean' as statistic,
            avg({{ name }}) as value,
            1e-9 * (1 + abs(avg({{ name }}))) as tolerance
        from train
        union all
        select
            '{{ name }}' as feature_name,
            'std' as statistic,
            stddev_pop({{ name }}) as value,
            1e-9 * (1 + stddev_pop({{ name }})) as tolerance
        from train
    {% endfor %}
    {% for component in components %}
        union all
        select
            '{{ component }}' as feature_name,
            'explained_variance_ratio' as statistic,
            var_samp({{ component }}) / any_value(total_variance.value) as value,
            1e-6 as tolerance
        from features.tracks_pca
        cross join total_variance
        where split = 'train'
    {% endfor %}
)

select
    expected.feature_name,
    expected.statistic,
    learnt.value as learnt,
    expected.value as expected
from expected
left join features.statistics as learnt
    on
        expected.feature_name = learnt.feature_name
        and expected.statistic = learnt.statistic
        and learnt.genre is null
where
    expected.value is not null
    and not coalesce(abs(learnt.value - expected.value) <= expected.tolerance, false)
