-- What models are given of tracks to predict: one row per track of staging.stg_tracks, in the file's order: z-scores
-- (features.tracks_std), principal components where a model takes them (features.tracks_pca), n_filled, and
-- is_unlike_training: a feature outside its range over the training rows, or a squared Mahalanobis distance above that
-- of all but 0.1 % of them. From features.familiarity (tasks/evaluation/calibration.py): `low` and `high` are those
-- ranges, in z-scores; the squared distance is the sum of squares of the z-scores' products with `axis1` to `axis12`;
-- `limit` is the distance that is too far.
-- A feature set with expressions has the columns of own_table instead. There a value that is not finite, as no training
-- row has, is replaced by 0, and the track is_unlike_training.
with

familiarity as (
    select
        {% for name in audio_features %}
            max(value) filter (where statistic = 'low' and feature_name = '{{ name }}') as {{ name }}_low,
            max(value) filter (where statistic = 'high' and feature_name = '{{ name }}') as {{ name }}_high,
        {% endfor %}
        {% for axis in range(1, audio_features | length + 1) %}
            list(value order by feature_name) filter (where statistic = 'axis{{ axis }}') as axis{{ axis }},
        {% endfor %}
        max(value) filter (where statistic = 'limit') as distance_limit
    from features.familiarity
),

tracks as (
    select
        *,
        [{{ audio_features | join(", ") }}] as z_scores
    from features.tracks_std
)

select
    source.row_number,
    source.instance_id as track_id,
    source.n_filled,
    (
        {% for name in audio_features %}
            tracks.{{ name }} not between familiarity.{{ name }}_low and familiarity.{{ name }}_high
            or
        {% endfor %}
        {% for axis in range(1, audio_features | length + 1) %}
            pow(list_dot_product(tracks.z_scores, familiarity.axis{{ axis }}), 2){{ " +" if not loop.last }}
        {% endfor %}
        > familiarity.distance_limit
        {% for name in own_columns %}
            or not coalesce(isfinite(own.{{ name }}), false)
        {% endfor %}
    ) as is_unlike_training,
    {% for name in own_columns %}
        if(isfinite(own.{{ name }}), own.{{ name }}, 0) as {{ name }},
    {% else %}
        {% for name in audio_features %}
            tracks.{{ name }},
        {% endfor %}
    {% endfor %}
    {% for component in components %}
        pca.{{ component }},
    {% endfor %}
from tracks
inner join staging.stg_tracks as source on tracks.track_id = source.track_id
{% if components %}
    inner join features.tracks_pca as pca on tracks.track_id = pca.track_id
{% endif %}
{% if own_table %}
    inner join {{ own_table }} as own on tracks.track_id = own.track_id
{% endif %}
cross join familiarity
order by source.row_number
