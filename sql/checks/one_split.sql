-- Every track of staging.stg_tracks is in exactly one split. Rows: the tracks that are not.
with

places as (
    select
        track_id,
        1 as tracks,
        0 as splits
    from staging.stg_tracks
    union all
    select
        track_id,
        0 as tracks,
        if(split in ('train', 'val', 'test', 'unused'), 1, 2) as splits
    from features.split_assignment
)

select
    track_id,
    sum(splits) as splits
from places
group by track_id
having sum(tracks) <> 1 or sum(splits) <> 1
