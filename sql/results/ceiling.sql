-- results.ceiling: the best accuracy any deterministic classifier could reach, since rows with identical features
-- carry different genres. One row per protocol, features ('untouched': the eight that are never missing nor encoded;
-- 'all': the twelve as models see them) and split ('any': all rows), for the tracks that were published last.
with

tracks as (
    select
        protocol,
        unnest(['any', split]) as split,
        music_genre,
        {{ audio_features | join(", ") }}
    from features.tracks_clean
),

genres_of_identical_rows as (
    {% for features, columns in (("untouched", measured_features), ("all", audio_features)) %}
    select
        protocol,
        split,
        '{{ features }}' as features,
        max(n) as most,
        sum(n) as n
    from (
        select
            protocol,
            split,
            {{ columns | join(", ") }},
            music_genre,
            count(*) as n
        from tracks
        group by all
    ) as counted
    group by protocol, split, {{ columns | join(", ") }}
    {{ "union all" if not loop.last }}
    {% endfor %}
)

select
    protocol,
    features,
    split,
    sum(most) / sum(n) as ceiling,
    cast(sum(n) as bigint) as n,
    (select snapshots.source from raw.snapshots as snapshots where snapshots.is_published) as source
from genres_of_identical_rows
where protocol in (select protocols.protocol from results.protocols as protocols where not protocols.is_probe)
group by protocol, features, split
order by protocol, features, split
