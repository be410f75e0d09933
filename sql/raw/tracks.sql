-- raw.tracks: one row per row read, as read: every value is text. Grain: row_number, the position in the file from 1.
-- From a CSV file (plain or gzip, column positions taken from its header) or a Parquet file, at $path.
-- Columns the project does not need are left out; optional columns the file lacks are NULL, but for instance_id, which
-- becomes the row number.
with

source as (
    select
        row_number() over () as row_number,
        *
    {% if file_format == "csv" %}
    from read_csv(
        $path,
        auto_detect = false,
        header = true,
        delim = ',',
        quote = '"',
        escape = '"',
        compression = $compression,
        max_line_size = 10000000,
        columns = {
            {% for position in range(width) %}
            'column{{ position }}': 'VARCHAR',
            {% endfor %}
        }
    )
    {% else %}
    from read_parquet($path)
    {% endif %}
),

named as (
    select
        row_number,
        {% for name, theirs in columns.items() %}
        {% if theirs %}
        nullif(trim(cast({{ theirs }} as varchar)), '') as {{ name }},
        {% elif name == "instance_id" %}
        cast(row_number as varchar) as {{ name }},
        {% else %}
        cast(null as varchar) as {{ name }},
        {% endif %}
        {% endfor %}
    from source
)

select * from named
