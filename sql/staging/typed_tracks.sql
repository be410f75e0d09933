-- staging.typed_tracks: one row per row of raw.tracks that has more than an id, as numbers and codes.
-- NULL where a text does not fit its column (raw.rejects has the reason) and where a value is missing. Missing are all
-- texts of the macro is_missing (MISSING in tasks/specs.py), tempo -1 and 0, duration_ms -1, key -1, and artist_name
-- 'empty_field'. numbers: the SQL expression of each number, with its unit converted (tasks/ingest/units.py).
-- Keys are names (C#, Db, C♯/D♭, D flat) or pitch classes. A key may include its mode (C# minor), which must agree with
-- column mode, and replaces it where that is missing. is_respelled: the genre is taken from staging.genre_spellings.
-- Its columns are those of staging.stg_tracks, which is the same file if no row is dropped.
-- Units: tempo beats/min, duration_ms milliseconds, key_code semitones above C, mode_code 1 major and 0 minor.
{% set note = "([A-Ga-g])(#|b|B| ?-?(?i:sharp)| ?-?(?i:flat))?" %}
{% set mode = "(M|m|(?i:maj(?:or)?|min(?:or)?))" %}
{% macro semitones(note, accidental) %}
    (
        strpos('C D EF G A B', upper({{ note }})) + 11
        + case
            when {{ accidental }} = '' then 0
            when {{ accidental }} = '#' or lower({{ accidental }}) like '%sharp' then 1
            else -1
        end
    ) % 12
{% endmacro %}
{% macro mode_named(text) %}
    case
        when {{ text }} = 'M' or lower({{ text }}) in ('maj', 'major') then 1
        when {{ text }} = 'm' or lower({{ text }}) in ('min', 'minor') then 0
    end
{% endmacro %}
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
        {% if is_respelled %}
            trim(music_genre) as spelling,
        {% else %}
            nullif(trim(music_genre), '') as music_genre,
        {% endif %}
        {% for name, number in numbers.items() %}
            {{ number }} as {{ name }},
        {% endfor %}
        case
            when regexp_full_match(instance_id, ' *[+-]?[0-9]+([.]0*)? *')
                then try_cast(instance_id as bigint)
        end as track_id,
        -- Only texts that begin with a sign or a digit are cast, because a failing cast is slow.
        try_cast(case when "key" < ':' and not contains("key", '_') then "key" end as double) as key_number,
        try_cast(case when "mode" < ':' and not contains("mode", '_') then "mode" end as double) as mode_number,
        trim("key") as key_text,
        trim("mode") as mode_text,
        -- If the text is a number, is_missing is not called.
        coalesce(nullif(try_cast(tempo as double), 'nan') in (-1, 0), is_missing(tempo)) as is_tempo_missing,
        coalesce(nullif(try_cast(duration_ms as double), 'nan') = -1, is_missing(duration_ms))
            as is_duration_missing,
        coalesce(key_number = -1, is_missing("key")) as is_key_missing
    from source
),

keys as (
    select
        *,
        coalesce(
            case when key_number in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11) then key_number end,
            list_position(['C', 'C#', 'D', 'D#', 'E', 'F', 'F#', 'G', 'G#', 'A', 'A#', 'B'], key_text) - 1
        ) as plain_key,
        regexp_extract(
            case when plain_key is null then replace(replace(key_text, '♯', '#'), '♭', 'b') end,
            '^{{ note }}(?:/{{ note }})?(?:[ _:-]*{{ mode }})?$',
            ['note', 'accidental', 'other_note', 'other_accidental', 'mode']
        ) as key_parts
    from numbers
),

codes as (
    select
        *,
        {{ mode_named("key_parts['mode']") }} as key_mode,
        case
            when plain_key is not null then plain_key
            when
                key_parts['note'] <> ''
                and (
                    key_parts['other_note'] = ''
                    or {{ semitones("key_parts['other_note']", "key_parts['other_accidental']") }}
                    = {{ semitones("key_parts['note']", "key_parts['accidental']") }}
                )
                then {{ semitones("key_parts['note']", "key_parts['accidental']") }}
        end as pitch_class,
        case
            when mode_number in (0, 1) then mode_number
            when lower(mode_text) in ('true', 't') then 1
            when lower(mode_text) in ('false', 'f') then 0
            else {{ mode_named("mode_text") }}
        end as own_mode
    from keys
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
        cast(case when coalesce(key_mode = own_mode, true) then pitch_class end as double) as key_code,
        liveness,
        loudness,
        cast(case when is_missing(mode_text) then key_mode else own_mode end as double) as mode_code,
        speechiness,
        case when not is_tempo_missing and tempo > 0 then tempo end as tempo,
        valence,
        case when popularity between 0 and 100 then popularity end as popularity,
        {{ "spellings.genre as music_genre" if is_respelled else "music_genre" }},
        is_tempo_missing,
        is_duration_missing,
        is_key_missing
    from codes
    {% if is_respelled %}
    left join staging.genre_spellings as spellings on codes.spelling = spellings.spelling
    order by row_number
    {% endif %}
)

select * from typed
