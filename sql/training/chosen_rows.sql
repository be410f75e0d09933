-- The positions of a cell's training rows in a large feature table, if it does not train on all of them: $n_wanted of
-- the first $n_allowed rows (those that its budget allows). They are stratified by genre to within one row, the first
-- rows of each genre. The rows for a smaller $n_wanted are a subset of those for a larger one.
with

allowed as (
    select
        position,
        genre_id
    from features.trained_table
    where split = 'train'
    order by position
    limit $n_allowed
),

placed as (
    select
        position,
        (row_number() over (partition by genre_id order by position) - 0.5)
        / count(*) over (partition by genre_id) as place
    from allowed
)

select position
from placed
order by
    place,
    position
limit $n_wanted
