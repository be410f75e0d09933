-- Tracks as their file has them, missing values not filled, without rejected rows. One row per row of the file. From
-- staging.typed_tracks and raw.rejects of a snapshot or of tracks to predict; `typed` and `rejects` are their names.
select typed.*
from {{ typed }} as typed
anti join {{ rejects }} as rejects on typed.row_number = rejects.row_number
