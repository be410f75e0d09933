-- The tracks that a split leaves out after a group was cut: one row per track_id. They are the tracks of recordings
-- that have an artist of another split than a track of theirs (assigned: track_id, split). An artist's split is that of
-- most of its tracks.
with

counts as (
    select
        artists.artist_id,
        assigned.split,
        count(*) as tracks
    from features.track_artists as artists
    inner join assigned on artists.track_id = assigned.track_id
    group by artists.artist_id, assigned.split
),

sides as (
    select
        artist_id,
        split
    from counts
    qualify row_number() over (partition by artist_id order by tracks desc, split) = 1
),

bridges as (
    select groups.recording_id
    from features.track_groups as groups
    inner join assigned on groups.track_id = assigned.track_id
    inner join features.track_artists as artists on groups.track_id = artists.track_id
    inner join sides on artists.artist_id = sides.artist_id
    where assigned.split <> sides.split
)

select track_id
from features.track_groups
where recording_id in (select bridges.recording_id from bridges)
