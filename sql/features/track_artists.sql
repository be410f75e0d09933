-- features.track_artists: one row per track_id and artist of it. From staging.stg_tracks; a track of nobody has no row.
-- artist_name may name several: in a list ("['A', 'B']", as Python, numpy, JSON or DuckDB write one), or separated by
-- ';', feat., ft., featuring, or any of $artist_separators (in lower case).
-- artist: one name in lower case, with single spaces. artist_id: a digest of it.
-- Dropped: what names nobody, such as blank, nan, unknown or various artists.
{% set nobody %}
'[-?.]*|[\[(<#]?(?:nan|none|null|nil|na|n/a|empty|empty_field|unknown(?: artists?)?|no artist|not available|'
    || 'v\.?a\.?|v/a|various(?: artists?)?|varios(?: artistas)?|artisti vari|artistes divers|'
    || 'verschiedene(?: interpreten)?)?[\])>]?'
{% endset %}
{% set item %}(?:''(?:[^''\\]|\\.)*''|"(?:[^"\\]|\\.)*"|[^''"\[\](){},\\]*){% endset %}
with

cells as (
    select distinct artist_name
    from staging.stg_tracks
    where artist_name is not null
),

-- A tuple or a set is read as a list, and so is a list without commas. NULL of what begins like none: a cast that fails
-- is slow.
literals as (
    select
        artist_name,
        case
            when regexp_matches(artist_name, '^\s*[\[({]')
                then regexp_replace(
                    regexp_replace(artist_name, '^\s*[({]\s*([''"].*[''"])\s*,?\s*[)}]\s*$', '[\1]', 's'),
                    '([''"])\s+([''"])',
                    '\1, \2',
                    'g'
                )
        end as literal
    from cells
),

listed as (
    select
        artist_name,
        unnest(
            case
                when literal is null then [artist_name]
                else coalesce(
                    try_cast(try_cast(literal as json) as varchar[]),
                    try_cast(
                        case
                            when regexp_full_match(literal, '\s*\[\s*{{ item }}(?:\s*,\s*{{ item }})*\s*\]\s*', 's')
                                then literal
                        end as varchar[]
                    ),
                    -- With quotes within quotes of the same kind.
                    string_split_regex(
                        nullif(regexp_extract(literal, '^\s*\[\s*[''"](.*)[''"]\s*\]\s*$', 1, 's'), ''),
                        '[''"]\s*,\s*[''"]'
                    ),
                    try_cast(literal as varchar[]),
                    [artist_name]
                )
            end
        ) as text
    from literals
),

lowered as (
    select
        artist_name,
        trim(regexp_replace(lower(nfc_normalize(text)), '[\s\p{Z}]+', ' ', 'g')) as text
    from listed
),

separated as (
    select
        artist_name,
        list_reduce(
            cast($artist_separators as varchar[]), lambda name, separator: replace(name, separator, ';'), text
        ) as text
    from lowered
    where not regexp_full_match(text, {{ nobody }})  -- such as n/a, whole
),

parts as (
    select
        artist_name,
        unnest(string_split_regex(text, '[;；]|(?: [-–])?[ ,(\[]+(?:feat|ft|featuring)(?:[.:] ?| )')) as part
    from separated
),

-- `A (feat. B)` leaves a bracket behind.
names as (
    select distinct
        artist_name,
        trim(
            case
                when contains(part, ')') or contains(part, ']')
                    then regexp_replace(part, '^([^(\[]*)[)\]]+ *$', '\1')
                else part
            end
        ) as artist
    from parts
)

select
    tracks.track_id,
    names.artist,
    cast(md5_number_lower(names.artist) >> 1 as bigint) as artist_id
from staging.stg_tracks as tracks
inner join names on tracks.artist_name = names.artist_name
where not regexp_full_match(names.artist, {{ nobody }})
