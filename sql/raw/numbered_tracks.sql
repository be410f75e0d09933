-- raw.tracks: one row per row read, as read. Grain: row_number, the position in the file from 1; it is also the
-- instance_id where the file has none. Row numbers of an appended file continue after those of the files before it.
{% for part in parts %}
select
    file_row_number + {{ part.first_row }} as row_number,
    {% if not part.has_instance_id %}
    cast(file_row_number + {{ part.first_row }} as varchar) as instance_id,
    {% endif %}
    * exclude (file_row_number)
from read_parquet({{ part.path }}, file_row_number = true, hive_partitioning = false)
{{ "union all" if not loop.last }}
{% endfor %}
