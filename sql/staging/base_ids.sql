-- staging.base_ids: the ids of the sound tracks of a snapshot that is appended to. From its staging.typed_tracks and
-- raw.rejects.
select track_id
from staging.typed_tracks
where
    case
        when music_genre is null then (select count(genres.music_genre) = 0 from staging.typed_tracks as genres)
        else true
    end
    and row_number not in (select rejects.row_number from raw.rejects as rejects)
