-- features.tracks_pca: one row per track_id, the principal components of its 12 z-scores, from features.pca_loadings.
-- The projection does not use the targets.
with

loadings as (
    select
        {% for component in components %}
            list(value order by feature_name) filter (where statistic = '{{ component }}') as {{ component }},
        {% endfor %}
    from features.pca_loadings
),

tracks as (
    select
        *,
        [{{ audio_features | join(", ") }}] as z_scores
    from features.tracks_std
)

select
    tracks.protocol,
    tracks.track_id,
    tracks.split,
    tracks.position,
    {% for component in components %}
        list_dot_product(tracks.z_scores, loadings.{{ component }}) as {{ component }},
    {% endfor %}
    tracks.popularity,
    tracks.music_genre,
    tracks.genre_id,
    tracks.is_imputed
from tracks
cross join loadings
