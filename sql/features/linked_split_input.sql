-- What a split is made from that leaves out what shares an artist or a recording: one row per track, in file order.
select
    tracks.track_id,
    mapping.genre_id,
    groups.recording_id,
    groups.artist_id
from staging.stg_tracks as tracks
inner join features.genre_mapping as mapping on tracks.music_genre is not distinct from mapping.music_genre
inner join features.track_groups as groups on tracks.track_id = groups.track_id
order by tracks.row_number
