-- Of the data quality page: one row per column and reason of raw.rejects, the most frequent first; first_line is where
-- in the file to look.
select
    column_name,
    split_part(error, ':', 1) as reason,
    count(*) as n,
    min(line) as first_line,
    arg_min(error, line) as first_error
from raw.rejects
group by column_name, reason
order by n desc, column_name, reason
