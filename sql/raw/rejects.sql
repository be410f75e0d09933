-- raw.rejects, before lines are looked up: one row per bad value, so a row of the file may stand here more than once.
-- From staging.typed_tracks beside raw.tracks. Rows without a genre are dropped by staging and not looked at here.
-- Of otherwise sound rows that share an instance_id the first is kept and the later ones stand here; of a file that is
-- appended, those whose id a track of staging.base_ids has.
{% set reasons = {
    "instance_id": ("track_id is null", "not a whole number"),
    "popularity": ("popularity is null", "not a number from 0 to 100"),
    "tempo": ("tempo is null and not is_tempo_missing", "not a positive number"),
    "duration_ms": ("duration_ms is null and not is_duration_missing", "not a positive number"),
    "key": ("key_code is null and not is_key_missing", "not a key name or a pitch class 0..11"),
    "mode": ("mode_code is null", "not Major, Minor, 1 or 0"),
} %}
{% for name in measured_features %}
{% set _ = reasons.update({name: (name ~ " is null", "not a finite number")}) %}
{% endfor %}
with

typed as not materialized (
    select * from staging.typed_tracks
    where music_genre is not null
),

bad_rows as (
    select
        row_number,
        {% for name, (is_bad, reason) in reasons.items() %}
            case when {{ is_bad }} then '{{ reason }}' end as "{{ name }}",
        {% endfor %}
    from typed
    where
        false
        {% for is_bad, _ in reasons.values() %}
            or ({{ is_bad }})
        {% endfor %}
),

bad_values as (
    unpivot bad_rows
    on columns(* exclude (row_number))
    into name column_name value error
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
    select typed.row_number
    from typed
    semi join staging.base_ids as base on typed.track_id = base.track_id
    anti join bad_rows on typed.row_number = bad_rows.row_number
),
{% endif %}

later_copies as (
    select typed.row_number
    from typed
    semi join repeated on typed.track_id = repeated.track_id
    anti join bad_rows on typed.row_number = bad_rows.row_number
    {% if is_appended %}
    anti join known_copies on typed.row_number = known_copies.row_number
    {% endif %}
    qualify row_number() over (partition by typed.track_id order by typed.row_number) > 1
),

reasons as (
    select
        row_number,
        column_name,
        error
    from bad_values
    union all
    select
        row_number,
        'instance_id' as column_name,
        'this id stands in an earlier row' as error
    from later_copies
    {% if is_appended %}
    union all
    select
        row_number,
        'instance_id' as column_name,
        'this id stands in the snapshot that is appended to' as error
    from known_copies
    {% endif %}
),

texts as (
    unpivot (
        select * exclude (obtained_date)
        from raw.tracks
        where row_number in (select row_number from reasons)
    )
    on columns(* exclude (row_number))
    into name column_name value value
)

select
    reasons.row_number,
    reasons.column_name,
    reasons.error || case
        when texts.value is null then ': empty'
        else ': ''' || left(texts.value, 60) || ''''
    end as error
from reasons
left join texts
    on
        reasons.row_number = texts.row_number
        and reasons.column_name = texts.column_name
order by reasons.row_number, reasons.column_name
