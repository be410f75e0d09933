-- What staging.stg_tracks is where it is checked that appended tracks keep artists and recordings apart: they, and the
-- tracks of the base that share one with them.
select * from staging.appended_tracks
union all by name
select * exclude (split) from staging.linked_tracks
