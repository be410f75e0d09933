-- What sql/predict/prepared_tracks.sql gives for tracks of which none is rejected, to the last bit, in one pass over
-- staging.typed_tracks. For few rows DuckDB takes longer for each table in between than for its rows.
-- constant(statistic, feature): a fitted statistic, as a number; NULL where there is none. Tracks have no genre, so
-- fill is the value over all genres. over_features(statistic): one such number for each feature, in the order of their
-- names. n_unclear: features without a value, of which staging.typed_tracks does not say that they are missing, as it
-- does by flags. unknown: features that no training row had. expressions: of the feature set's own columns, as in
-- sql/features/feature_set.sql.
with

filled as (
    select
        row_number,
        track_id,
        {% for name in audio_features %}
            cast({{ name }} is null as integer){{ " +" if not loop.last }}
        {% endfor %}
            as n_filled,
        {% for name in audio_features %}
            {% set is_known_as_missing = flags[name] if name in flags else "false" %}
            cast({{ name }} is null and not {{ is_known_as_missing }} as integer){{ " +" if not loop.last }}
        {% endfor %}
            as n_unclear,
        {% for name in audio_features %}
            {% set known = "null" if name in unknown else name %}
            {% set filled = "coalesce(" ~ known ~ ", " ~ constant("fill", name) ~ ", 0)" %}
            {{ "round(" ~ filled ~ ", 3)" if name == "tempo" else filled }} as clean_{{ name }},
        {% endfor %}
    from staging.typed_tracks
),

standardized as (
    select
        *,
        {% for name in audio_features %}
            {% set std = "coalesce(nullif(" ~ constant("std", name) ~ ", 0), 1)" %}
            (clean_{{ name }} - {{ constant("mean", name) }}) / {{ std }} as {{ name }},
        {% endfor %}
    from filled
),

tracks as (
    select
        *,
        [{{ audio_features | join(", ") }}] as z_scores,
        {% for name, expression in expressions.items() %}
            cast(({{ expression }}) as double) as own_{{ loop.index }},
        {% endfor %}
    from standardized
)

select
    row_number,
    track_id,
    n_filled,
    n_unclear,
    (
        {% for name in audio_features %}
            {{ name }} not between {{ constant("low", name) }} and {{ constant("high", name) }}
            or
        {% endfor %}
        {% for axis in range(1, audio_features | length + 1) %}
            {% set loadings = over_features("axis" ~ axis) | join(", ") %}
            pow(list_dot_product(z_scores, [{{ loadings }}]), 2){{ " +" if not loop.last }}
        {% endfor %}
        > {{ constant("limit") }}
        {% for name in expressions %}
            or not coalesce(isfinite(own_{{ loop.index }}), false)
        {% endfor %}
    ) as is_unlike_training,
    {% for name in expressions %}
        if(isfinite(own_{{ loop.index }}), own_{{ loop.index }}, 0) as {{ name }},
    {% else %}
        {% for name in audio_features %}
            {{ name }},
        {% endfor %}
    {% endfor %}
    {% for component in components %}
        list_dot_product(z_scores, [{{ over_features(component) | join(", ") }}]) as {{ component }},
    {% endfor %}
from tracks
