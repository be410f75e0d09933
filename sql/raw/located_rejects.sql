-- raw.rejects: one row per bad value of raw.reasons (sql/raw/rejects.sql) with its place in the file: line, the first
-- of several, counted from 1, and csv_line, their text (of a Parquet file the row, and no text), from lines_found.
-- $after: rows of the snapshot before the file's own.
select
    coalesce(places.line, (reasons.row_number - $after) + 1) as line,
    reasons.column_name,
    reasons.error,
    places.csv_line,
    reasons.row_number
from raw.reasons as reasons
left join lines_found as places on (reasons.row_number - $after) = places.file_row
order by reasons.row_number, reasons.column_name
