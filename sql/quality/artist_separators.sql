-- The texts of $candidates that seem to separate artists: one row per separator, the clearest first. names: the number
-- of artist names that contain it. holding: how many of these contain an artist who also stands alone. example, alone:
-- such a name and that artist. From features.track_artists. Dropped: separators with holding below $least_names, or
-- below the share $least_share of names.
with

artists as (
    select distinct artist
    from features.track_artists
),

candidates as (
    select unnest(cast($candidates as varchar[])) as separator
),

parts as (
    select
        candidates.separator,
        artists.artist,
        trim(unnest(string_split(artists.artist, candidates.separator))) as part
    from artists
    inner join candidates
        on
            contains(artists.artist, candidates.separator)
            and not (candidates.separator = ',' and contains(artists.artist, ', '))
),

named as (
    select
        parts.separator,
        parts.artist,
        min(alone.artist) as alone
    from parts
    left join artists as alone on parts.part = alone.artist
    group by parts.separator, parts.artist
)

select
    separator,
    count(*) as names,
    count(alone) as holding,
    min(artist) filter (alone is not null) as example,
    arg_min(alone, artist) filter (alone is not null) as alone
from named
group by separator
having count(alone) >= $least_names and count(alone) >= $least_share * count(*)
order by holding desc, separator
