-- The input of a split that keeps groups whole: one row per track, in an order that does not depend on the file's.
-- A group is cut (is_cut) if it would leave validation and test less than half of their shares. Its tracks are then
-- grouped by the first artist of their recording, and sql/features/bridging_tracks.sql lists those to leave out.
with

too_large as (
    select group_id
    from features.track_groups
    group by group_id
    having count(*) > 0.85 * (select count(*) from staging.stg_tracks)
),

cut as (
    select
        groups.recording_id,
        min(artists.artist_id) as artist_id
    from too_large
    inner join features.track_groups as groups on too_large.group_id = groups.group_id
    inner join features.track_artists as artists on groups.track_id = artists.track_id
    group by groups.recording_id
)

select
    tracks.track_id,
    mapping.genre_id,
    coalesce(cut.artist_id, groups.group_id) as group_id,
    cut.artist_id is not null as is_cut
from staging.stg_tracks as tracks
inner join features.genre_mapping as mapping on tracks.music_genre is not distinct from mapping.music_genre
inner join features.track_groups as groups on tracks.track_id = groups.track_id
left join cut on groups.recording_id = cut.recording_id
order by groups.content_hash, tracks.track_id
