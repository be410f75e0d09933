-- Tracks that share an artist, and tracks of the same recording, are in the same split, unless they are unused.
-- Rows: the artists and recordings that are in several splits.
with

links as (
    select
        'artist' as kind,
        track_id,
        artist_id as id
    from features.track_artists
    union all
    select
        'recording' as kind,
        track_id,
        recording_id as id
    from features.track_groups
)

select
    links.kind,
    links.id,
    count(*) as tracks
from links
inner join features.split_assignment as split on links.track_id = split.track_id
where split.split <> 'unused'
group by links.kind, links.id
having min(split.split) <> max(split.split)
