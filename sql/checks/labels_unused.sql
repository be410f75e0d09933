-- A filled value does not depend on the genre: a feature has one value for all tracks in which it is missing.
-- Rows: the features that were filled with several values, or whose fill value is kept by genre.
with

filled as (
    {% for name in audio_features %}
        select
            '{{ name }}' as feature_name,
            clean.{{ name }} as value
        from features.tracks_clean as clean
        inner join staging.stg_tracks as tracks on clean.track_id = tracks.track_id
        where tracks.{{ name }} is null
        {{ "union all" if not loop.last }}
    {% endfor %}
)

select feature_name
from filled
group by feature_name
having count(distinct value) > 1
union
select feature_name
from features.fill_values
where genre is not null
