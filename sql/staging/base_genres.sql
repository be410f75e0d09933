-- staging.base_genres: one row per genre of the snapshot that a file is appended to. From its staging.typed_tracks.
select distinct music_genre
from staging.typed_tracks
where music_genre is not null
