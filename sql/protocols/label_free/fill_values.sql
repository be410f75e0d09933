-- features.fill_values of every protocol but `published`: what stands in for a missing value, learnt from the training
-- rows without looking at the genre (genre is NULL). Duration in whole ms, tempo to 3 decimals, key_code the
-- most frequent one (the lowest of several).
with

train as (
    select tracks.*
    from staging.stg_tracks as tracks
    inner join features.split_assignment as split on tracks.track_id = split.track_id
    where split.split = 'train'
),

keys as (
    select
        key_code,
        count(*) as n
    from train
    where key_code is not null
    group by key_code
),

filled as (
    select
        'tempo' as feature_name,
        round(avg(tempo), 3) as value
    from train
    union all
    select
        'duration_ms' as feature_name,
        round(avg(duration_ms), 0) as value
    from train
    union all
    select
        'key_code' as feature_name,
        (select key_code from keys order by n desc, key_code limit 1) as value
)

select
    $protocol as protocol,
    feature_name,
    'fill' as statistic,
    cast(null as varchar) as genre,
    value
from filled
order by feature_name
