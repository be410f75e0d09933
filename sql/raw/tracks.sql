-- The stored rows of raw.tracks: one per row read, in the order of the file, as read: every value is text.
-- From a CSV file (plain or gzip, column positions taken from its header) or a Parquet file, at $path.
-- Columns the project does not need are left out, and so is instance_id where the file has none; obtained_date is NULL
-- then. raw.tracks itself (sql/raw/numbered_tracks.sql) adds row_number.
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
        new_line = $new_line,  -- left to DuckDB, a line break within the header's quotes would lose every row
        max_line_size = 2000000,
        buffer_size = 4000000,  -- small, so that several cores share a small file
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
