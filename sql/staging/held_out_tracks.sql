-- staging.held_out_tracks: the tracks of a base (staging.base_tracks, features.base_split) that are not in training,
-- with their split. Grain: track_id.
select
    tracks.*,
    split.split
from staging.base_tracks as tracks
inner join features.base_split as split on tracks.track_id = split.track_id
where split.split <> 'train'
