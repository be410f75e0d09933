-- The input of a split that leaves out training rows that share a recording (shared_id) with a test row: one row per
-- track, in file order.
select
    tracks.track_id,
    mapping.genre_id,
    links.recording_id as shared_id
from staging.stg_tracks as tracks
inner join features.genre_mapping as mapping on tracks.music_genre is not distinct from mapping.music_genre
inner join features.track_links as links on tracks.track_id = links.track_id
order by tracks.row_number
