-- features.track_groups: one row per track_id, the columns of features.track_links and group_id. Tracks that a chain of
-- same artist and same recording links share it: the lowest recording_id among them. A recording of which no artist is
-- known is a group of its own.
with

artists as (
    select
        links.*,
        coalesce(shared.artist_group, links.artist_id) as artist_group
    from features.track_links as links
    left join features.artist_groups as shared on links.artist_id = shared.artist_id
),

recordings as (
    select
        *,
        min(artist_group) over (partition by recording_id) as recording_group
    from artists
)

select
    track_id,
    recording_id,
    artist_id,
    content_hash,
    case
        when recording_group is null then recording_id
        else min(recording_id) over (partition by recording_group)
    end as group_id
from recordings
