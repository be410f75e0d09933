-- features.genre_mapping: one row per genre; genre_id counts from 0 in alphabetical (byte) order, as LabelEncoder does.
-- column_name is genre_<genre>. The id is appended to all names if two genres differ only in case, or if a name would
-- be genre_id. A zero byte, which would end a column's name, is replaced by a question mark.
-- If no track has a genre, there is one row without a name for all tracks.
with

labels as (
    select distinct
        music_genre,
        replace(music_genre, chr(0), '?') as label
    from staging.stg_tracks
),

genres as (
    select
        cast(row_number() over (order by music_genre) - 1 as integer) as genre_id,
        music_genre,
        label,
        count(*) over (partition by lower(label)) as spellings
    from labels
)

select
    genre_id,
    music_genre,
    case
        when max(spellings) over () > 1 or bool_or(lower(label) = 'id') over ()
            then 'genre_' || label || '_' || genre_id
        else 'genre_' || label
    end as column_name
from genres
order by genre_id
