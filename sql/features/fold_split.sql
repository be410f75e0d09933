-- features.split_assignment of one fold ($fold) of a cross-validation. From features.fold_assignment, which has two
-- parts for each fold. The fold's own parts are the test rows, the first part of the next fold is the validation rows,
-- and the others are the training rows: 70 % of five folds, as in a single split. A track without a part is unused.
with

parts as (
    select
        protocol,
        folds,
        track_id,
        position,
        group_id,
        part // 2 + 1 as fold,
        part % 2 = 0 as is_first
    from features.fold_assignment
),

roles as (
    select
        protocol,
        track_id,
        position,
        group_id,
        case
            when fold is null then 'unused'
            when fold = $fold then 'test'
            when fold = $fold % folds + 1 and is_first then 'val'
            else 'train'
        end as split
    from parts
)

select
    protocol,
    track_id,
    split,
    row_number() over (partition by split order by position) - 1 as position,
    group_id
from roles
order by split, position
