-- staging.typed_tracks: one row per row of raw.tracks that holds anything besides an id, as numbers and codes.
-- NULL where a text is not what its column holds (raw.rejects says why) and where a value is missing: tempo '?', -1, 0
-- or empty; duration_ms -1, '?' or empty; key -1, '?' or empty; artist_name 'empty_field'.
-- Its columns are those of staging.stg_tracks, which is the same file where that drops no row.
-- Units: tempo beats/min, duration_ms milliseconds, key_code semitones above C, mode_code 1 major and 0 minor.
{# DuckDB reads 1_000 as 1000. -#}
{% macro number(text) %}try_cast(case when not contains({{ text }}, '_') then {{ text }} end as double){% endmacro %}
with

source as (
    select *
    from raw.tracks
    where
        coalesce(
            artist_name, track_name, popularity, acousticness, danceability, duration_ms, energy, instrumentalness,
            "key", liveness, loudness, "mode", speechiness, tempo, valence, music_genre
        ) is not null
),

numbers as (
    select
        row_number,
        nullif(trim(artist_name), 'empty_field') as artist_name,
        track_name,
        nullif(trim(music_genre), '') as music_genre,
        {% for name in numeric_columns %}
            case when abs({{ number(name) }}) < 1e15 then {{ number(name) }} end as {{ name }},
        {% endfor %}
        case
            when regexp_full_match(instance_id, ' *[+-]?[0-9]+([.]0*)? *')
                then try_cast(instance_id as bigint)
        end as track_id,
        -- A text is tried as a number only if it begins with a sign or digit: a cast that fails is slow.
        try_cast(case when "key" < ':' and not contains("key", '_') then "key" end as double) as key_number,
        try_cast(case when "mode" < ':' and not contains("mode", '_') then "mode" end as double) as mode_number,
        upper(replace(replace(trim("key"), '♯', '#'), '♭', 'b')) as key_name,
        lower(trim("mode")) as mode_name,
        -- Of a number the text is not looked at.
        coalesce({{ number('tempo') }} in (-1, 0), trim(tempo) in ('?', ''), true) as is_tempo_missing,
        coalesce({{ number('duration_ms') }} = -1, trim(duration_ms) in ('?', ''), true) as is_duration_missing,
        coalesce(key_number = -1, trim("key") in ('?', ''), true) as is_key_missing
    from source
),

typed as (
    select
        track_id,
        row_number,
        artist_name,
        track_name,
        acousticness,
        danceability,
        case when not is_duration_missing and duration_ms > 0 then duration_ms end as duration_ms,
        energy,
        instrumentalness,
        cast(
            case
                when is_key_missing then null
                when key_number in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11) then key_number
                else coalesce(
                    list_position(['C', 'C#', 'D', 'D#', 'E', 'F', 'F#', 'G', 'G#', 'A', 'A#', 'B'], key_name),
                    list_position(['B#', 'DB', '', 'EB', 'FB', 'E#', 'GB', '', 'AB', '', 'BB', 'CB'], key_name)
                ) - 1
            end as double
        ) as key_code,
        liveness,
        loudness,
        cast(
            case
                when mode_name = 'major' or mode_number = 1 then 1
                when mode_name = 'minor' or mode_number = 0 then 0
            end as double
        ) as mode_code,
        speechiness,
        case when not is_tempo_missing and tempo > 0 then tempo end as tempo,
        valence,
        case when popularity between 0 and 100 then popularity end as popularity,
        music_genre,
        is_tempo_missing,
        is_duration_missing,
        is_key_missing
    from numbers
)

select * from typed
