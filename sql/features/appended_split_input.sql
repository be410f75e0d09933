-- What the split of appended tracks is made from where artists or recordings are kept apart: one row per track, in an
-- order that does not depend on the file's, and whether a test row of the base (staging.linked_tracks) has its artist
-- or its recording; is_linked: whether one of any split but train has either.
with

keyed as (
    select
        *,
        coalesce(key_code, -1) as known_key
    from staging.stg_tracks
),

artists as (
    select
        artist_name,
        bool_or(split <> 'train') as in_other,
        bool_or(split = 'test') as in_test
    from staging.linked_tracks
    where artist_name is not null
    group by artist_name
),

recordings as (
    select
        acousticness,
        danceability,
        energy,
        instrumentalness,
        coalesce(key_code, -1) as known_key,
        liveness,
        loudness,
        mode_code,
        speechiness,
        valence,
        bool_or(split <> 'train') as in_other,
        bool_or(split = 'test') as in_test
    from staging.linked_tracks
    group by all
)

select
    tracks.track_id,
    groups.group_id,
    coalesce(artists.in_test, false) as artists_in_test,
    coalesce(recordings.in_test, false) as recordings_in_test,
    coalesce(artists.in_other, false) or coalesce(recordings.in_other, false) as is_linked
from keyed as tracks
inner join features.track_groups as groups on tracks.track_id = groups.track_id
left join artists on tracks.artist_name = artists.artist_name
left join recordings
    on
        tracks.acousticness = recordings.acousticness
        and tracks.danceability = recordings.danceability
        and tracks.energy = recordings.energy
        and tracks.instrumentalness = recordings.instrumentalness
        and tracks.known_key = recordings.known_key
        and tracks.liveness = recordings.liveness
        and tracks.loudness = recordings.loudness
        and tracks.mode_code = recordings.mode_code
        and tracks.speechiness = recordings.speechiness
        and tracks.valence = recordings.valence
order by groups.content_hash, tracks.track_id
