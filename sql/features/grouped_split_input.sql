-- What a split that keeps groups whole is made from: one row per track, in an order that does not depend on the file's.
select
    tracks.track_id,
    mapping.genre_id,
    groups.group_id
from staging.stg_tracks as tracks
inner join features.genre_mapping as mapping on tracks.music_genre is not distinct from mapping.music_genre
inner join features.track_groups as groups on tracks.track_id = groups.track_id
order by groups.content_hash, tracks.track_id
