-- raw.rejects of tracks to predict: raw.bad_values, and one row for each row that holds nothing besides an id (blank;
-- targets are not read): those that are missing from staging.typed_tracks, looked for where has_blank_rows.
-- Grain: row_number, column_name.
select
    row_number,
    column_name,
    error,
    false as is_blank
from raw.bad_values
{% if has_blank_rows %}
union all
select
    tracks.row_number,
    'audio features' as column_name,
    'blank row' as error,
    true as is_blank
from raw.tracks as tracks
anti join staging.typed_tracks as typed on tracks.row_number = typed.row_number
{% endif %}
order by row_number, column_name
