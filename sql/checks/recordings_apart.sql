-- No training row shares a recording with a test row. Rows: the recordings that are in both.
select groups.recording_id
from features.track_groups as groups
inner join features.split_assignment as split on groups.track_id = split.track_id
where
    groups.recording_id is not null
    and split.split in ('train', 'test')
group by groups.recording_id
having min(split.split) <> max(split.split)
