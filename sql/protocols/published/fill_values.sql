-- features.fill_values of protocol `published`: what stands in for a missing value, per genre, learnt from ALL rows.
-- This is the study's rule, and it leaks: the filled value is a code for the genre. Duration in whole ms, tempo to 3
-- decimals, key_code the most frequent one (the lowest of several). Rows with genre NULL hold the value over all
-- genres,
-- for a genre in which every value is missing, and for tracks of which none has a genre.
with

tracks as (select * from staging.stg_tracks),

means as (
    select
        music_genre as genre,
        round(favg(tempo), 3) as tempo,
        round(favg(duration_ms), 0) as duration_ms
    from tracks
    group by grouping sets ((music_genre), ())
),

key_counts as (
    select
        music_genre as genre,
        key_code,
        count(*) as n
    from tracks
    where key_code is not null
    group by grouping sets ((music_genre, key_code), (key_code))
),

keys as (
    select
        genre,
        key_code
    from key_counts
    qualify row_number() over (partition by genre order by n desc, key_code) = 1
),

filled as (
    select
        'tempo' as feature_name,
        genre,
        tempo as value
    from means
    union all
    select
        'duration_ms' as feature_name,
        genre,
        duration_ms as value
    from means
    union all
    select
        'key_code' as feature_name,
        genre,
        key_code as value
    from keys
)

select distinct
    $protocol as protocol,
    feature_name,
    'fill' as statistic,
    genre,
    value
from filled
order by feature_name, genre nulls first
