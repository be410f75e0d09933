-- raw.rejects: one row per bad value of raw.reasons (sql/raw/rejects.sql) with its place in the file, from lines_found:
-- line, where its row begins, counted from 1, and csv_line, the text of the row. For a Parquet file, line is the row
-- number and csv_line is empty. $after: number of rows of the snapshot before the file's own.
select
    coalesce(places.line, (reasons.row_number - $after) + 1) as line,
    reasons.column_name,
    reasons.error,
    places.csv_line,
    reasons.row_number
from raw.reasons as reasons
left join lines_found as places on (reasons.row_number - $after) = places.file_row
order by reasons.row_number, reasons.column_name
