-- What a cell trains on of a large feature table, if not on all rows of the split: their positions. Of the first
-- $n_allowed rows (all that its budget allows) $n_wanted, stratified by genre: of each genre its share, to within one
-- row, the first of it. Those for a smaller $n_wanted are among those for a larger.
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
