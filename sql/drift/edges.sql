-- The inner edges of the bins of each number, as a column of one row: its deciles over the reference rows, of which
-- 100,000 or fewer are looked at. Equal deciles are one edge, and the largest value is none, so that no bin is empty in
-- the reference rows. A bin holds its upper edge; the first and the last have no end.
with

looked_at as (
    select
        {% for name in numbers %}
            cast({{ name }} as double) as {{ name }},
        {% endfor %}
    from reference_rows
    using sample reservoir (100000 rows) repeatable (42)
),

deciles as (
    select
        {% for name in numbers %}
            quantile_disc({{ name }}, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]) as {{ name }},
            max({{ name }}) as highest_{{ name }},
        {% endfor %}
    from looked_at
)

select
    {% for name in numbers %}
        coalesce(
            list_sort(list_distinct(list_filter({{ name }}, lambda edge: edge < highest_{{ name }}))),
            cast([] as double [])
        ) as {{ name }},
    {% endfor %}
from deciles
