-- staging.genre_spellings: one row per genre text of raw.tracks without outer spaces: spelling, n (its rows) and genre.
-- genre is NULL if the text means a missing value (is_missing, or unknown). Otherwise it is the most frequent spelling
-- among those that differ only in case, white space and Unicode form; ties go to the first in byte order. A list of one
-- genre is that genre. In an appended file the spelling of staging.base_genres has priority.
-- is_list: the text seems to list several genres.
{% macro folded(text) %}lower(nfc_normalize(regexp_replace({{ text }}, '[\s\p{Z}]+', ' ', 'g'))){% endmacro %}
with

spellings as (
    select
        trim(music_genre) as spelling,
        count(*) as n
    from raw.tracks
    where music_genre is not null
    group by spelling
),

labels as (
    select
        *,
        regexp_replace(
            case
                when regexp_full_match(
                    spelling, '[\[({]\s*(?:''[^'']*''|"[^"]*"|[\p{L}\p{N}][^''",;|\[\](){}]*)?\s*,?\s*[\])}]'
                )
                    then trim(spelling, '[](){},''" ')
                else spelling
            end,
            '^[\s\p{Z}]+|[\s\p{Z}]+$',
            '',
            'g'
        ) as label
    from spellings
),

folded as (
    select
        *,
        {{ folded("label") }} as folded
    from labels
    where not is_missing(label) and lower(label) <> 'unknown'
),

genres as (
    select
        folded,
        first(label order by n desc, label) as genre
    from folded
    group by folded
),

{% if is_appended %}
known as (
    select
        {{ folded("music_genre") }} as folded,
        min(music_genre) as genre
    from staging.base_genres
    group by folded
),
{% endif %}

named as (
    select
        spellings.spelling,
        spellings.n,
        {{ "coalesce(known.genre, genres.genre)" if is_appended else "genres.genre" }} as genre,
        genres.genre is not null and regexp_matches(folded.label, '[,;|]') as is_list
    from spellings
    left join folded on spellings.spelling = folded.spelling
    left join genres on folded.folded = genres.folded
    {% if is_appended %}
    left join known on folded.folded = known.folded
    {% endif %}
)

select * from named
order by n desc, spelling
