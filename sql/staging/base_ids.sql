-- staging.base_ids: one row per valid track of the snapshot that a file is appended to, with its id. From its
-- staging.typed_tracks and raw.rejects.
select track_id
from staging.typed_tracks
where
    case
        when music_genre is null then (select count(genres.music_genre) = 0 from staging.typed_tracks as genres)
        else true
    end
    and row_number not in (select rejects.row_number from raw.rejects as rejects)
