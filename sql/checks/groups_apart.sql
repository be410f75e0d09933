-- Tracks of one artist, and tracks that are the same recording, are in the same split, if they are in one at all.
-- Rows: the artists and recordings that are on several sides.
with

tracks as (
    select
        groups.artist_id,
        groups.recording_id,
        split.split
    from features.track_groups as groups
    inner join features.split_assignment as split on groups.track_id = split.track_id
    where split.split <> 'unused'
)

select
    'artist' as kind,
    artist_id as id,
    count(*) as tracks
from tracks
where artist_id is not null
group by artist_id
having min(split) <> max(split)
union all
select
    'recording' as kind,
    recording_id as id,
    count(*) as tracks
from tracks
group by recording_id
having min(split) <> max(split)
