-- Each expression of a feature set has a finite value for every track. It runs on a set's table before that is stored.
-- Rows: the columns without such a value, with a track of each and the number of tracks.
with

found as (
    {% for name in expressions %}
        select
            {{ loop.index }} as place,
            min(track_id) as track_id,
            count(*) as tracks
        from {{ rows }}
        where not coalesce(isfinite({{ name }}), false)
        {{ "union all" if not loop.last }}
    {% endfor %}
)

select *
from found
where tracks > 0
order by place
