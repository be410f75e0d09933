-- Every track of staging.stg_tracks is in exactly one split. Rows: the tracks that are not.
with

tracks as (
    select
        track_id,
        count(*) as n
    from staging.stg_tracks
    group by track_id
),

assigned as (
    select
        track_id,
        count(*) as n,
        bool_and(split in ('train', 'val', 'test', 'unused')) as is_known
    from features.split_assignment
    group by track_id
)

select
    coalesce(tracks.track_id, assigned.track_id) as track_id,
    coalesce(assigned.n, 0) as splits
from tracks
full outer join assigned on tracks.track_id = assigned.track_id
where
    tracks.n is distinct from 1
    or assigned.n is distinct from 1
    or not assigned.is_known
