-- staging.base_ids: the ids of the sound tracks of a snapshot that is appended to. From its staging.typed_tracks and
-- raw.rejects.
select track_id
from staging.typed_tracks
where
    music_genre is not null
    and row_number not in (select rejects.row_number from raw.rejects as rejects)
