-- What reading a file found, as one row of counts.
select
    (select count(*) from raw.tracks) as rows_read,
    (select count(*) from raw.tracks) - (select count(*) from staging.typed_tracks) as blank_rows,
    (
        select count(*) from staging.typed_tracks
        where music_genre is null
    ) as rows_without_genre,
    (select count(distinct row_number) from raw.rejects) as rejected_rows,
    (select count(*) from raw.rejects) as rejected_values
