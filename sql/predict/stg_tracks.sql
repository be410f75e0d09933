-- staging.stg_tracks of tracks to predict: the rows $first to $last of staging.typed_tracks that are no rejects.
-- track_id is the row's place in the file, because the file's own ids, here instance_id, may repeat; targets are NULL.
-- unknown: features that no training row had, which are left out here. n_filled: how many of the 12 are missing.
select
    typed.row_number as track_id,
    typed.row_number,
    typed.track_id as instance_id,
    {% for name in audio_features %}
        {{ "cast(null as double) as " if name in unknown else "typed." }}{{ name }},
    {% endfor %}
    cast(null as double) as popularity,
    cast(null as varchar) as music_genre,
    typed.is_tempo_missing,
    typed.is_duration_missing,
    typed.is_key_missing,
    {% for name in audio_features %}
        cast(typed.{{ name }} is null as integer){{ " +" if not loop.last }}
    {% endfor %}
        as n_filled
from staging.typed_tracks as typed
anti join raw.rejects as rejects on typed.row_number = rejects.row_number
where typed.row_number between $first and $last
