-- No model is given a missing or infinite value. Rows: the tracks of features.tracks_std that hold one.
select track_id
from features.tracks_std
where
    popularity is null
    {% for name in audio_features %}
        or not coalesce(isfinite({{ name }}), false)
    {% endfor %}
