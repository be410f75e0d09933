-- The tracks that stand in for staging.stg_tracks when artists and recordings are checked to be kept apart: the
-- appended tracks, and the base tracks that share an artist or a recording with them.
select * from staging.appended_tracks
union all by name
select * exclude (split) from staging.linked_tracks
