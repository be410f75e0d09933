-- features.genre_mapping: one row per genre; genre_id counts from 0 in alphabetical (byte) order, as LabelEncoder
-- does. column_name is genre_<genre>; the id is appended to each if two genres differ only in case, and where it would
-- be genre_id.
with

genres as (
    select
        cast(row_number() over (order by music_genre) - 1 as integer) as genre_id,
        music_genre,
        count(*) over (partition by lower(music_genre)) as spellings
    from (select distinct music_genre from staging.stg_tracks) as found
)

select
    genre_id,
    music_genre,
    case
        when max(spellings) over () > 1 or lower(music_genre) = 'id' then 'genre_' || music_genre || '_' || genre_id
        else 'genre_' || music_genre
    end as column_name
from genres
order by genre_id
