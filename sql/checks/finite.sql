-- No model gets a missing or infinite value, except that popularity may be missing in all tracks; models of popularity
-- are not trained then. Rows: the tracks of features.tracks_std with such a value.
select track_id
from features.tracks_std
where
    (popularity is null and (select count(others.popularity) > 0 from features.tracks_std as others))
    {% for name in audio_features %}
        or not coalesce(isfinite({{ name }}), false)
    {% endfor %}
