-- How many rows sql/raw/rejects.sql gives reasons for, in all, and where the $some-th of them stands (NULL: there are
-- fewer): one row. From staging.typed_tracks (of tracks that are appended to, staging.base_ids). What is cheap to know:
-- of a file that is refused for its rejects, reasons and texts are not looked up for all.
{% from "raw/rejects.sql" import reasons with context %}
with

typed as not materialized (
    select
        row_number,
        track_id,
        (
            false
            {% for is_bad, _ in reasons.values() %}
                or ({{ is_bad }})
            {% endfor %}
        ) as is_bad
    from staging.typed_tracks
    where music_genre is not null
),

kept as (
    select min(typed.row_number) as row_number
    from typed
    {% if is_appended %}
    anti join staging.base_ids as base on typed.track_id = base.track_id
    {% endif %}
    where not typed.is_bad
    group by typed.track_id
),

rejected as (
    select typed.row_number
    from typed
    anti join kept on typed.row_number = kept.row_number
)

select
    count(*) as n_rows,
    min(row_number, $some)[$some] as end_of_some
from rejected
