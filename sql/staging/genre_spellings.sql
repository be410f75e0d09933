-- staging.genre_spellings: one row per genre text of raw.tracks, outer spaces left out: spelling, n (its rows) and the
-- genre that it is: NULL if it says that there is none (is_missing), else the commonest of the spellings that differ
-- from it only in case and runs of spaces (of equals the first in byte order). Of a file that is appended, the spelling
-- of the tracks that it is appended to (staging.base_genres). is_list: it seems to list several genres.
with

spellings as (
    select
        trim(music_genre) as spelling,
        count(*) as n
    from raw.tracks
    where music_genre is not null
    group by spelling
),

folded as (
    select
        *,
        lower(regexp_replace(spelling, ' +', ' ', 'g')) as folded
    from spellings
    where not is_missing(spelling)
),

genres as (
    select
        folded,
        first(spelling order by n desc, spelling) as genre
    from folded
    group by folded
),

{% if is_appended %}
known as (
    select
        lower(regexp_replace(music_genre, ' +', ' ', 'g')) as folded,
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
        genres.genre is not null and regexp_matches(spellings.spelling, '[,;|]') as is_list
    from spellings
    left join folded on spellings.spelling = folded.spelling
    left join genres on folded.folded = genres.folded
    {% if is_appended %}
    left join known on folded.folded = known.folded
    {% endif %}
)

select * from named
order by n desc, spelling
