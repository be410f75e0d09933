-- Every track of staging.stg_tracks is in exactly one split. Rows: the tracks that are not.
select
    coalesce(tracks.track_id, split.track_id) as track_id,
    count(split.split) as splits
from staging.stg_tracks as tracks
full outer join features.split_assignment as split on tracks.track_id = split.track_id
group by all
having
    count(split.split) <> 1
    or count(tracks.track_id) <> 1
    or bool_or(split.split not in ('train', 'val', 'test', 'unused'))
