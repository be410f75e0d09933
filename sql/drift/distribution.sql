-- The distribution of each number: one row per bin of drift_edges, with its reference rows and current rows that have a
-- value.
with

counted as (
    {% for side in ["reference", "current"] %}
    select
        '{{ side }}' as side,
        {% for name in numbers %}
            histogram(cast(tracks.{{ name }} as double), edges.{{ name }}) as {{ name }},
        {% endfor %}
    from {{ side }}_rows as tracks
    cross join drift_edges as edges
    {{ "union all" if not loop.last }}
    {% endfor %}
),

by_column as (
    unpivot counted
    on * exclude (side)
    into name column_name value bins
),

entries as (
    select
        side,
        column_name,
        unnest(map_keys(bins)) as edge,
        unnest(map_values(bins)) as n
    from by_column
)

select
    'distribution' as statistic,
    column_name,
    cast(edge as varchar) as bin,
    coalesce(cast(sum(n) filter (where side = 'reference') as bigint), 0) as n_reference,
    coalesce(cast(sum(n) filter (where side = 'current') as bigint), 0) as n
from entries
group by column_name, edge
