-- What a split that keeps groups whole is made from: one row per track, in an order that does not depend on the file's.
-- A group that would leave less than half of their shares to validation and test is cut (is_cut): its tracks go by the
-- first artist of their recording, and sql/features/bridging_tracks.sql says which of them to leave out.
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
