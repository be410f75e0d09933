-- staging.base_genres: the genres of a snapshot that is appended to, one row each. From its staging.typed_tracks.
select distinct music_genre
from staging.typed_tracks
where music_genre is not null
