-- No training row shares an artist with a test row. Rows: the artists that are in both.
select artists.artist_id
from features.track_artists as artists
inner join features.split_assignment as split on artists.track_id = split.track_id
where split.split in ('train', 'test')
group by artists.artist_id
having min(split.split) <> max(split.split)
