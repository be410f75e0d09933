-- Statistics that show the unit of a column: one row per column of staging.typed_tracks with a scale, in the scale's
-- unit (tasks/ingest/units.py). n_outside: values outside of the scale. outside: their approximate 0.02, 0.5 and 0.98
-- quantiles, which tell units apart. n_inside: values that are surely on the scale.
{% for name, scale in scales.items() %}
{% set is_inside = "(" ~ name ~ " between " ~ scale.low ~ " and " ~ scale.high ~ ")" %}
select
    '{{ name }}' as "column",
    count({{ name }}) as n,
    min({{ name }}) as low,
    max({{ name }}) as high,
    avg({{ name }}) as mean,
    count(*) filter (where not {{ is_inside }}) as n_outside,
    count(*) filter (where {{ name }} >= {{ scale.low }} and {{ name }} < {{ scale.sure }} and {{ name }} <> 0)
        as n_inside,
    approx_quantile({{ name }}, [0.02, 0.5, 0.98]) filter (where not {{ is_inside }}) as outside
from staging.typed_tracks
{{ "union all" if not loop.last }}
{% endfor %}
