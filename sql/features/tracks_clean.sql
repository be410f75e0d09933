-- features.tracks_clean: one row per track_id, with missing values filled, not standardized, with the track's place in
-- the split (models are trained in the order of position) and its genre's id. From features.fill_values.
-- A missing value is replaced by the genre's value if the protocol has one, else by the value over all genres (genre
-- NULL), else, for a feature that no track has, by 0. is_imputed: a value was filled that other tracks have.
-- The same SELECT prepares tracks to predict (tasks/prediction/preparation.py), which have no split and no genre.
-- Units: tempo beats/min to 3 decimals, duration_ms milliseconds, key_code semitones above C.
with

tracks as (select * from staging.stg_tracks),

per_genre as (
    select
        genre,
        {% for name in audio_features %}
            max(value) filter (where feature_name = '{{ name }}') as {{ name }},
        {% endfor %}
    from features.fill_values
    group by genre
),

over_all as (select * from per_genre where genre is null),

present as (
    select
        {% for name in audio_features %}
            count({{ name }}) as {{ name }},
        {% endfor %}
    from tracks
)

select
    $protocol as protocol,
    tracks.track_id,
    tracks.row_number,
    split.split,
    split.position,
    {% for name in audio_features %}
        {{ "round(" if name == "tempo" -}}
        coalesce(tracks.{{ name }}, per_genre.{{ name }}, over_all.{{ name }}, 0)
        {{- ", 3)" if name == "tempo" }} as {{ name }},
    {% endfor %}
    tracks.popularity,
    tracks.music_genre,
    mapping.genre_id,
    {% for name in audio_features %}
        (tracks.{{ name }} is null and present.{{ name }} > 0)
        {{- " or" if not loop.last }}
    {% endfor %}
        as is_imputed
from tracks
left join features.split_assignment as split on tracks.track_id = split.track_id
left join features.genre_mapping as mapping on tracks.music_genre is not distinct from mapping.music_genre
left join per_genre on tracks.music_genre = per_genre.genre
left join over_all on true
cross join present
