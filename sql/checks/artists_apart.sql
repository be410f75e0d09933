-- No training row shares an artist with a test row. Rows: the artists of both.
select groups.artist_id
from features.track_groups as groups
inner join features.split_assignment as split on groups.track_id = split.track_id
where
    groups.artist_id is not null
    and split.split in ('train', 'test')
group by groups.artist_id
having min(split.split) <> max(split.split)
