-- The size as text of the needed columns of a Parquet file at $path, in bytes: one row. longest lists the longest value
-- of each column, in the order of columns; total is the sum of all values. DuckDB looks at each dictionary value once,
-- so that this is fast and needs little memory even where reading the rows would not.
with

source as (
    select
        {% for theirs in columns %}
            strlen(cast({{ theirs }} as varchar)) as bytes_{{ loop.index }},
        {% endfor %}
    from read_parquet($path, hive_partitioning = false)
)

select
    [
        {% for _ in columns %}
            max(bytes_{{ loop.index }}),
        {% endfor %}
    ] as longest,
    0
    {% for _ in columns %}
        + coalesce(sum(bytes_{{ loop.index }}), 0)
    {% endfor %}
        as total
from source
