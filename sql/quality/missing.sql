-- For the data quality page: one row per column of staging.stg_tracks with missing values. share: the share of tracks
-- without a value, 0 to 1.
with

present as (
    select
        count(*) as n_tracks,
        count(columns(* exclude (row_number, track_id)))
    from staging.stg_tracks
),

named as (
    unpivot present
    on columns(* exclude (n_tracks))
    into name column_name value n_present
)

select
    column_name,
    n_tracks - n_present as n,
    (n_tracks - n_present) / n_tracks as share
from named
where n_present < n_tracks
order by n desc, column_name
