-- The known tracks nearest to the one track of features.tracks_std: one row per recording, nearest first, at most $k.
-- From known_std and known_tracks, which are features.tracks_std and staging.stg_tracks of the warehouse. distance:
-- Euclidean, between the 12 z-scores. Rows with the same ten never-missing audio features are one recording, as in
-- sql/features/track_links.sql; it is shown by the nearest of its rows, of equals by the lowest track_id.
-- Only the $n_rows nearest rows are looked at: whoever gets fewer than $k recordings asks again with more.
-- $is_known: the track is one of the known tracks itself (staging.stg_tracks holds it), and its recording is left out.
with

nearest_rows as (
    select
        known.track_id,
        list_distance(
            [known.{{ audio_features | join(", known.") }}],
            [given.{{ audio_features | join(", given.") }}]
        ) as distance
    from known_std as known
    cross join features.tracks_std as given
    order by distance, known.track_id
    limit $n_rows
),

found as (
    select
        known.*,
        nearest_rows.distance,
        {% for name in audio_features if name not in ("tempo", "duration_ms") %}
            known.{{ name }} is not distinct from given.{{ name }}{{ " and" if not loop.last }}
        {% endfor %}
            as is_same_recording
    from nearest_rows
    inner join known_tracks as known on nearest_rows.track_id = known.track_id
    cross join staging.stg_tracks as given
),

recordings as (
    select
        *,
        row_number() over (
            partition by
                {% for name in audio_features if name not in ("tempo", "duration_ms") %}
                    {{ name }}{{ "," if not loop.last }}
                {% endfor %}
            order by distance, track_id
        ) as place
    from found
    where not ($is_known and is_same_recording)
)

select
    track_id,
    artist_name,
    track_name,
    music_genre,
    popularity,
    distance
from recordings
where place = 1
order by distance, track_id
limit $k
