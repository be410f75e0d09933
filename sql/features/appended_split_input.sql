-- The input of the split of appended tracks, for protocols that keep artists or recordings apart: one row per track, in
-- an order that does not depend on the file's. artists_in_test, recordings_in_test: whether a test track of the base
-- (staging.linked_tracks) has an artist of the track, or its recording. is_linked: whether any base track outside of
-- training has one of them.
with

known_artists as (
    select
        held.artist,
        bool_or(tracks.split = 'test') as in_test
    from staging.linked_tracks as tracks
    inner join features.held_out_artists as held on tracks.track_id = held.track_id
    group by held.artist
),

artists as (
    select
        own.track_id,
        bool_or(known.in_test) as in_test
    from features.track_artists as own
    inner join known_artists as known on own.artist = known.artist
    group by own.track_id
),

recordings as (
    select
        acousticness,
        danceability,
        energy,
        instrumentalness,
        key_code,
        liveness,
        loudness,
        mode_code,
        speechiness,
        valence,
        bool_or(split = 'test') as in_test
    from staging.linked_tracks
    group by all
)

select
    tracks.track_id,
    groups.group_id,
    coalesce(artists.in_test, false) as artists_in_test,
    coalesce(recordings.in_test, false) as recordings_in_test,
    artists.track_id is not null or recordings.in_test is not null as is_linked
from staging.stg_tracks as tracks
inner join features.track_groups as groups on tracks.track_id = groups.track_id
left join artists on tracks.track_id = artists.track_id
left join recordings
    on
        tracks.acousticness is not distinct from recordings.acousticness
        and tracks.danceability is not distinct from recordings.danceability
        and tracks.energy is not distinct from recordings.energy
        and tracks.instrumentalness is not distinct from recordings.instrumentalness
        and tracks.key_code is not distinct from recordings.key_code
        and tracks.liveness is not distinct from recordings.liveness
        and tracks.loudness is not distinct from recordings.loudness
        and tracks.mode_code is not distinct from recordings.mode_code
        and tracks.speechiness is not distinct from recordings.speechiness
        and tracks.valence is not distinct from recordings.valence
order by groups.content_hash, tracks.track_id
