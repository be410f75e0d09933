-- The training rows of a model as their file has them, missing values not filled. Grain: track_id.
select tracks.*
from training_tracks as tracks
inner join training_split as split on tracks.track_id = split.track_id
where split.split = 'train'
