-- What the values of staging.typed_tracks look like: one row per column that has a scale (tasks/ingest/units.py), in its unit.
-- n_outside: values outside the scale; outside: their 0.02, 0.5 and 0.98 quantiles, more or less, to tell units apart;
-- n_inside: values that are surely on the scale.
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
