-- Of the report: one row per ordered pair of columns of sampled_tracks, with Pearson's correlation over the tracks that
-- have both; NULL where one is constant.
{% set names = ["popularity"] + (audio_features | list) %}
with

measured as (
    select
        [
            {% for a in names %}
            {% for b in names %}
            {'a': '{{ a }}', 'b': '{{ b }}', 'correlation': corr({{ a }}, {{ b }})}
            {{- "," if not loop.last }}
            {% endfor %}
            {{- "," if not loop.last }}
            {% endfor %}
        ] as pairs
    from sampled_tracks
),

listed as (select unnest(pairs, recursive := true) from measured)

select
    a,
    b,
    if(isfinite(correlation), correlation, null) as correlation
from listed
