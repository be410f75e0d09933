-- staging.linked_tracks: the tracks of a base (staging.base_tracks, features.base_split) that are none of training and
-- share an artist or a recording with one of staging.stg_tracks, which were appended; and their split. Grain: track_id.
{% set recording = [
    "acousticness", "danceability", "energy", "instrumentalness", "coalesce(key_code, -1)", "liveness", "loudness",
    "mode_code", "speechiness", "valence",
] | join(", ") %}
with

others as (
    select
        tracks.*,
        split.split
    from staging.base_tracks as tracks
    inner join features.base_split as split on tracks.track_id = split.track_id
    where split.split <> 'train'
)

select *
from others
where
    artist_name in (select artist_name from staging.stg_tracks where artist_name is not null)
    or ({{ recording }}) in (select ({{ recording }}) from staging.stg_tracks)
