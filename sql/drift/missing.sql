-- Missing values: two rows per column, the rows without a value (bin 'yes') and those with one ('no').
with

counted as (
    {% for side in ["reference", "current"] %}
    select
        '{{ side }}' as side,
        count(*) as n_rows,
        {% for name in columns %}
            count({{ name }}) as {{ name }},
        {% endfor %}
    from {{ side }}_rows
    {{ "union all" if not loop.last }}
    {% endfor %}
),

by_column as (
    unpivot counted
    on * exclude (side, n_rows)
    into name column_name value n_present
),

bins as (
    select
        column_name,
        side,
        'yes' as bin,
        n_rows - n_present as n
    from by_column
    union all
    select
        column_name,
        side,
        'no' as bin,
        n_present as n
    from by_column
)

select
    'missing' as statistic,
    column_name,
    bin,
    cast(sum(n) filter (where side = 'reference') as bigint) as n_reference,
    cast(sum(n) filter (where side = 'current') as bigint) as n
from bins
group by column_name, bin
