-- raw.tracks: one row per row read, as read. Grain: row_number, the position in the file from 1; it is the
-- instance_id, too, where the file has none.
select
    file_row_number + 1 as row_number,
    {% if not has_instance_id %}
    cast(file_row_number + 1 as varchar) as instance_id,
    {% endif %}
    * exclude (file_row_number)
from read_parquet({{ path }}, file_row_number = true, hive_partitioning = false)
