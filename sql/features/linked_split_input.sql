-- What a split is made from that looks at artists and recordings: one row per track, in an order that does not depend
-- on the file's.
select
    tracks.track_id,
    tracks.row_number,
    mapping.genre_id,
    groups.recording_id,
    groups.artist_id,
    groups.group_id
from staging.stg_tracks as tracks
inner join features.genre_mapping as mapping on tracks.music_genre = mapping.music_genre
inner join features.track_groups as groups on tracks.track_id = groups.track_id
order by groups.content_hash, tracks.track_id
