-- features.track_groups: one row per track_id, the columns of features.track_links and group_id. Tracks that a chain of
-- shared artists and recordings links have the same group_id: the lowest recording_id among them. A recording without a
-- known artist is a separate group.
with

recordings as (
    select
        links.recording_id,
        min(coalesce(shared.artist_group, artists.artist_id)) as recording_group
    from features.track_links as links
    inner join features.track_artists as artists on links.track_id = artists.track_id
    left join features.artist_groups as shared on artists.artist_id = shared.artist_id
    group by links.recording_id
),

groups as (
    select
        recording_id,
        min(recording_id) over (partition by recording_group) as group_id
    from recordings
)

select
    links.track_id,
    links.recording_id,
    links.content_hash,
    coalesce(groups.group_id, links.recording_id) as group_id
from features.track_links as links
left join groups on links.recording_id = groups.recording_id
