-- features.tracks_std: one row per track_id, the 12 audio features as z-scores, from features.scaling (a constant
-- feature is only centred). Models are trained in the order of position.
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
    clean.protocol,
    clean.track_id,
    clean.split,
    clean.position,
    {% for name in audio_features %}
        (clean.{{ name }} - scaling.{{ name }}_mean) / scaling.{{ name }}_std as {{ name }},
    {% endfor %}
    clean.popularity,
    clean.music_genre,
    clean.genre_id,
    clean.is_imputed
from features.tracks_clean as clean
cross join scaling
