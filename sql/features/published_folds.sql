-- features.fold_assignment and features.fold_statistics as they are published, from their stored files. Those of the
-- study's seed have no fold_seed.
with

stored as (
    select *
    from read_parquet([{{ files }}], hive_partitioning = false, union_by_name = true)
    union all by name
    select cast(null as bigint) as fold_seed
    where false
),

seeded as (
    select * replace (coalesce(fold_seed, {{ study_seed }}) as fold_seed)
    from stored
)

select {{ columns | join(", ") }}
from seeded
