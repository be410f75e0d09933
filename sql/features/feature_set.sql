-- The table of a feature set with expressions: one row per track_id, the value of each expression as a column. From the
-- z-scores (features.tracks_std), here by the features' names, and the filled values in their units
-- (features.tracks_clean), here with `clean_` before the name.
with

tracks as (
    select
        std.*,
        {% for name in audio_features %}
            clean.{{ name }} as clean_{{ name }},
        {% endfor %}
    from features.tracks_std as std
    inner join features.tracks_clean as clean on std.track_id = clean.track_id
)

select
    protocol,
    track_id,
    split,
    position,
    {% for name, expression in expressions.items() %}
        cast(({{ expression }}) as double) as {{ name }},
    {% endfor %}
    popularity,
    music_genre,
    genre_id,
    is_imputed
from tracks
