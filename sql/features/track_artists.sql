-- features.track_artists: one row per track_id and artist. From staging.stg_tracks; a track without artists has no row.
-- artist_name may hold several artists: in a list ("['A', 'B']", as Python, numpy, JSON or DuckDB write it; also lists
-- in lists, and lists separated by ';'), or separated by ';', feat., ft., featuring, or any of $artist_separators (in
-- lower case). artist: one name in lower case, with single spaces. artist_id: a digest of it.
-- Dropped: names of nobody, such as blank, nan, unknown or various artists.
{% set nobody %}
'[-?.]*|[\[(<#]?(?:nan|none|null|nil|na|n/a|empty|empty_field|unknown(?: artists?)?|no artist|not available|'
    || 'v\.?a\.?|v/a|various(?: artists?)?|varios(?: artistas)?|artisti vari|artistes divers|'
    || 'verschiedene(?: interpreten)?)?[\])>]?'
{% endset %}
{% set opening %}(\[{<（【［「『{% endset %}
{% set closing %})\]}>）】］」』{% endset %}
{% set item %}(?:''(?:[^''\\]|\\.)*''|"(?:[^"\\]|\\.)*"|[^''"\[\](){},\\]*){% endset %}
with

cells as (
    select distinct artist_name
    from staging.stg_tracks
    where artist_name is not null
),

-- literal: a text that begins like a list, rewritten as one list with commas. The text may be a tuple, a set, a list
-- without commas or with None, several lists, or lists in a list. NULL for other texts, because a failing cast is slow.
literals as (
    select
        artist_name,
        case
            when regexp_matches(artist_name, '^\s*[\[({]')
                then regexp_replace(artist_name, '^\s*[({]\s*([''"].*[''"])\s*,?\s*[)}]\s*$', '[\1]', 's')
        end as one_list,
        regexp_replace(one_list, '([''"])\s+(?:(?:None|nan)\s+)*([''"])', '\1, \2', 'g') as with_commas,
        regexp_replace(with_commas, '^\s*\[(?:(?:None|nan)\s+)+([''"])', '[\1') as none_before,
        regexp_replace(none_before, '([''"])(?:\s+(?:None|nan))+\s*\]\s*$', '\1]') as none_after,
        regexp_replace(none_after, '\]\s*[;,]\s*\[', ', ', 'g') as joined,
        regexp_replace(joined, '^\s*\[(?:\s*\[)+(.*?)\](?:\s*\])+\s*$', '[\1]', 's') as literal
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
                    -- Items that contain quotes of the same kind.
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
    where not regexp_full_match(text, {{ nobody }})  -- the whole text, before '/' can split n/a
),

-- Splits guests off: `A (feat. B)`, `A & ft. B`, `A; featuring B`.
split as (
    select
        artist_name,
        string_split_regex(
            text,
            '[;；](?: ?(?:feat|ft|featuring)(?:[.:]+ ?| ))?'
            || '|(?: w/)?(?: [-–—~]|[ ,/|+&:–—{{ opening }}])+(?:feat|ft|featuring)(?:[.:]+ ?| )'
        ) as all_parts
    from separated
),

parts as (
    select
        artist_name,
        unnest(all_parts) as part,
        generate_subscripts(all_parts, 1) as place
    from split
),

-- `A (feat. B) [live] & C` was split after the opening bracket. The closing one ends the guests; [live] is no artist.
unbracketed as (
    select
        artist_name,
        place,
        unnest(
            string_split(
                regexp_replace(
                    regexp_replace(
                        part,
                        '^([^{{ opening }}]*)[{{ closing }}]+(?: *[{{ opening }}][^{{ closing }}]*[{{ closing }}])* *',
                        '\1;'
                    ),
                    ';[ ,/|+&:–—-]+',
                    ';'
                ),
                ';'
            )
        ) as part
    from parts
),

names as (
    select distinct
        artist_name,
        trim(
            case
                when place > 1
                    then regexp_replace(
                        trim(part), '^[{{ opening }}"“«]([^{{ closing }}"”»]*)[{{ closing }}"”»]$', '\1'
                    )
                else part
            end
        ) as artist
    from unbracketed
)

select
    tracks.track_id,
    names.artist,
    cast(md5_number_lower(names.artist) >> 1 as bigint) as artist_id
from staging.stg_tracks as tracks
inner join names on tracks.artist_name = names.artist_name
where not regexp_full_match(names.artist, {{ nobody }})
