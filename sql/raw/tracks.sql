-- The stored rows of raw.tracks: one row per row of the file, in file order, every value as text.
-- From a CSV file (plain or gzip, columns by their position in the header) or a Parquet file, at $path.
-- Columns that the project does not need are left out. A needed column that the file lacks is NULL; only instance_id is
-- left out then. The view raw.tracks (sql/raw/numbered_tracks.sql) adds row_number.
with

source as (
    select *
    {% if file_format == "csv" %}
    from read_csv(
        $path,
        auto_detect = false,
        header = true,
        skip = $title_lines,
        delim = ',',
        quote = '"',
        escape = '"',
        compression = $compression,
        new_line = $new_line,  -- detected by DuckDB, a line break in a quoted header would lose every row
        max_line_size = 2000000,
        buffer_size = 4000000,  -- small, so that several cores can share a small file
        columns = {
            {% for position in range(width) %}
            'column{{ position }}': 'VARCHAR',
            {% endfor %}
        }
    )
    {% else %}
    from read_parquet($path, hive_partitioning = false)
    {% endif %}
),

named as (
    select
        {% for name, theirs in columns.items() %}
        {% if theirs %}
        {{ theirs if file_format == "csv" else "nullif(cast(" ~ theirs ~ " as varchar), '')" }} as {{ name }},
        {% elif name != "instance_id" %}
        cast(null as varchar) as {{ name }},
        {% endif %}
        {% endfor %}
    from source
)

select * from named
