-- raw.reasons, which becomes raw.rejects with the lines of the file: raw.bad_values, and repeated ids of otherwise
-- valid rows. The first row with an id is kept; in an appended file no row is kept whose id is in staging.base_ids.
-- If has_genre, rows without a genre are not checked, because staging drops them.
with

typed as not materialized (
    select * from staging.typed_tracks
    {% if has_genre %}where music_genre is not null{% endif %}
),

repeated as (
    select track_id
    from typed
    where track_id is not null
    group by track_id
    having count(*) > 1
),

{% if is_appended %}
known_copies as (
    select
        typed.row_number,
        typed.track_id
    from typed
    semi join staging.base_ids as base on typed.track_id = base.track_id
    anti join raw.bad_values as bad on typed.row_number = bad.row_number
),
{% endif %}

later_copies as (
    select
        typed.row_number,
        typed.track_id
    from typed
    semi join repeated on typed.track_id = repeated.track_id
    anti join raw.bad_values as bad on typed.row_number = bad.row_number
    {% if is_appended %}
    anti join known_copies on typed.row_number = known_copies.row_number
    {% endif %}
    qualify row_number() over (partition by typed.track_id order by typed.row_number) > 1
)

select
    row_number,
    column_name,
    error
from raw.bad_values
union all
select
    row_number,
    'instance_id' as column_name,
    'this id stands in an earlier row: ''' || track_id || '''' as error
from later_copies
{% if is_appended %}
union all
select
    row_number,
    'instance_id' as column_name,
    'this id stands in the snapshot that is appended to: ''' || track_id || '''' as error
from known_copies
{% endif %}
order by row_number, column_name
