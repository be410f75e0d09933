-- features.tracks_multitask: one row per track_id, the 12 z-scores with both targets: genre_* 0/1 columns and
-- popularity.
select
    protocol,
    track_id,
    split,
    position,
    {% for name in audio_features %}
        {{ name }},
    {% endfor %}
    {% for genre_id, column_name in genres %}
        cast(genre_id = {{ genre_id }} as utinyint) as {{ column_name }},
    {% endfor %}
    popularity,
    genre_id,
    is_imputed
from features.tracks_std
