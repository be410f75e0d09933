-- staging.linked_tracks: the tracks of staging.held_out_tracks that share an artist or a recording with an appended
-- track (staging.stg_tracks). From features.held_out_artists and features.track_artists. Grain: track_id.
{% set features = [
    "acousticness", "danceability", "energy", "instrumentalness", "key_code", "liveness", "loudness", "mode_code",
    "speechiness", "valence",
] %}
{# Missing values are equal to each other, as in features.track_links. -#}
{% set recording = "coalesce(" ~ features | join(", 'nan'::double), coalesce(") ~ ", 'nan'::double)" %}
select *
from staging.held_out_tracks
where
    track_id in (
        select held.track_id
        from features.held_out_artists as held
        where held.artist in (select artists.artist from features.track_artists as artists)
    )
    or ({{ recording }}) in (select ({{ recording }}) from staging.stg_tracks)
