-- The input of the principal components: the z-scores of the training rows, without their ids. They are computed from
-- features.tracks_clean, as in features.tracks_std, so that both tables can be made at the same time.
with

scaling as (
    select
        {% for name in audio_features %}
            max(value) filter (where feature_name = '{{ name }}' and statistic = 'mean') as {{ name }}_mean,
            coalesce(nullif(max(value) filter (where feature_name = '{{ name }}' and statistic = 'std'), 0), 1)
                as {{ name }}_std,
        {% endfor %}
    from features.scaling
)

select
    {% for name in audio_features %}
        (clean.{{ name }} - scaling.{{ name }}_mean) / scaling.{{ name }}_std as {{ name }},
    {% endfor %}
from features.tracks_clean as clean
cross join scaling
where clean.split = 'train'
