-- The input of a split: one row per track, in file order.
select
    tracks.track_id,
    mapping.genre_id
from staging.stg_tracks as tracks
inner join features.genre_mapping as mapping on tracks.music_genre is not distinct from mapping.music_genre
order by tracks.row_number
