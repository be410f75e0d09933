-- A filled value says nothing about the genre: one value for all tracks in which the feature is missing.
-- Rows: the features that were filled with several values, or whose fill value is kept by genre.
with

filled as (
    select
        'tempo' as feature_name,
        clean.tempo as value
    from features.tracks_clean as clean
    inner join staging.stg_tracks as tracks on clean.track_id = tracks.track_id
    where tracks.is_tempo_missing
    union all
    select
        'duration_ms' as feature_name,
        clean.duration_ms as value
    from features.tracks_clean as clean
    inner join staging.stg_tracks as tracks on clean.track_id = tracks.track_id
    where tracks.is_duration_missing
    union all
    select
        'key_code' as feature_name,
        clean.key_code as value
    from features.tracks_clean as clean
    inner join staging.stg_tracks as tracks on clean.track_id = tracks.track_id
    where tracks.is_key_missing
)

select feature_name
from filled
group by feature_name
having count(distinct value) > 1
union
select feature_name
from features.fill_values
where genre is not null
