-- Of the report: up to 100,000 tracks drawn from staging.stg_tracks, the columns its figures of the data are made from.
select
    popularity,
    {{ audio_features | join(", ") }}
from staging.stg_tracks
using sample reservoir(100000 rows) repeatable (42)
