-- No model is given a missing or infinite value; popularity may be missing from all tracks, which are then of no use to
-- those that learn it. Rows: the tracks of features.tracks_std that hold one.
select track_id
from features.tracks_std
where
    (popularity is null and (select count(others.popularity) > 0 from features.tracks_std as others))
    {% for name in audio_features %}
        or not coalesce(isfinite({{ name }}), false)
    {% endfor %}
