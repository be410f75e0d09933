-- Of the report: one row per column and bin of sampled_tracks: 24 bins of equal width between the column's 0.5th and
-- 99.5th percentiles (low, high), in which the few values outside are left out; n counts tracks.
with

named as (
    unpivot sampled_tracks
    on columns(*)
    into name column_name value value
),

ranges as (
    select
        column_name,
        quantile_cont(value, 0.005) as low,
        quantile_cont(value, 0.995) as high
    from named
    group by column_name
)

select
    named.column_name,
    ranges.low,
    ranges.high,
    if(ranges.high > ranges.low, least(cast(floor(24 * (value - low) / (high - low)) as integer), 23), 0) as bin,
    count(*) as n
from named
inner join ranges on named.column_name = ranges.column_name
where named.value between ranges.low and ranges.high
group by named.column_name, ranges.low, ranges.high, bin
order by named.column_name, bin
