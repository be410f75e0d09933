-- How large the values of a Parquet file at $path are as text, of the columns that the project needs: one row.
-- Bytes: longest (of a value, a list in the order of the columns) and total. DuckDB looks at each value of a dictionary
-- once, so that this is fast and small where the rows themselves would not be.
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
