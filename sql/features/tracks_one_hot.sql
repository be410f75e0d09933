-- features.tracks_one_hot: one row per track_id of features.tracks_clean, with a 0/1 column for each genre, named by
-- features.genre_mapping.
select
    clean.protocol,
    clean.track_id,
    {% for name in audio_features %}
        clean.{{ name }},
    {% endfor %}
    clean.popularity,
    {% for genre_id, column_name in genres %}
        cast(clean.genre_id = {{ genre_id }} as utinyint) as {{ column_name }},
    {% endfor %}
from features.tracks_clean as clean
