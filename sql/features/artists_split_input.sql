-- The input of a split that leaves out training rows that share an artist with a test row: one row per track and artist
-- (shared_id; NULL if the track has no artist), in file order.
select
    tracks.track_id,
    mapping.genre_id,
    artists.artist_id as shared_id
from staging.stg_tracks as tracks
inner join features.genre_mapping as mapping on tracks.music_genre is not distinct from mapping.music_genre
left join features.track_artists as artists on tracks.track_id = artists.track_id
order by tracks.row_number, artists.artist_id
