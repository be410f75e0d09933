-- features.fill_values of every protocol except `published`: the values that replace missing ones, fitted on the
-- training rows without looking at the genre (genre is NULL). It is the mean, of duration in whole ms and of tempo to 3
-- decimals. For key_code and mode_code it is the most frequent value (the lowest of several keys, major of both modes).
-- Means have 12 significant digits, as in features.scaling, so that they do not depend on the number of threads.
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

learnt as (
    select
        {% for name in audio_features if name not in ("duration_ms", "key_code", "mode_code", "tempo") %}
            cast(printf('%.11e', favg({{ name }})) as double) as {{ name }},
        {% endfor %}
        round(favg(duration_ms), 0) as duration_ms,
        (select key_code from keys order by n desc, key_code limit 1) as key_code,
        round(favg(mode_code), 0) as mode_code,
        round(favg(tempo), 3) as tempo
    from train
),

filled as (
    unpivot learnt
    on *
    into name feature_name value value
)

select
    $protocol as protocol,
    feature_name,
    'fill' as statistic,
    cast(null as varchar) as genre,
    value
from filled
order by feature_name
