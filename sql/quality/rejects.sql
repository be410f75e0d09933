-- For the data quality page: one row per column and reason of raw.rejects, the most frequent first. first_line: the
-- first such line in the file.
select
    column_name,
    split_part(error, ':', 1) as reason,
    count(*) as n,
    min(line) as first_line,
    arg_min(error, line) as first_error
from raw.rejects
group by column_name, reason
order by n desc, column_name, reason
