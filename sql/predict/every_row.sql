-- Every row of the tracks to predict, in their order: its prediction, and the problem because of which there is none.
-- Grain: row_number, from 1 to $rows.
with

numbered as (
    select unnest(range(1, $rows + 1)) as row_number
),

problems as (
    select
        row_number,
        string_agg(column_name || ': ' || error, '; ' order by column_name) as problem
    from raw.rejects
    group by row_number
)

select
    predicted.* replace (numbered.row_number as row_number),
    problems.problem
from numbered
left join predicted on numbered.row_number = predicted.row_number
left join problems on numbered.row_number = problems.row_number
order by numbered.row_number
