-- raw.rejects, before lines are looked up: one row per bad value, so a row of the file may stand here more than once.
-- From staging.typed_tracks beside raw.tracks. Rows without a genre are dropped by staging and not looked at here.
-- Of otherwise sound rows that share an instance_id the first is kept and the later ones stand here.
with

typed as (
    select * from staging.typed_tracks
    where music_genre is not null
),

checked as (
    select
        typed.row_number,
        case when typed.track_id is null then 'not a whole number' end as instance_id,
        {% for name in measured_features %}
            case when typed.{{ name }} is null then 'not a finite number' end as {{ name }},
        {% endfor %}
        case when typed.popularity is null then 'not a number from 0 to 100' end as popularity,
        case when typed.tempo is null and not typed.is_tempo_missing then 'not a positive number' end as tempo,
        case when typed.duration_ms is null and not typed.is_duration_missing then 'not a positive number' end
            as duration_ms,
        case when typed.key_code is null and not typed.is_key_missing then 'not a key name or a pitch class 0..11' end
            as "key",
        case when typed.mode_code is null then 'not Major, Minor, 1 or 0' end as "mode"
    from typed
),

bad_rows as (
    select *
    from checked
    where
        coalesce(
            instance_id, popularity, tempo, duration_ms, "key", "mode"
            {% for name in measured_features %}, {{ name }}{% endfor %}
        ) is not null
),

bad_values as (
    unpivot bad_rows
    on columns(* exclude (row_number))
    into name column_name value error
),

sound as (
    select
        typed.row_number,
        typed.track_id
    from typed
    anti join bad_rows on typed.row_number = bad_rows.row_number
),

repeated as (
    select track_id
    from sound
    group by track_id
    having count(*) > 1
),

later_copies as (
    select row_number
    from sound
    where track_id in (select track_id from repeated)
    qualify row_number() over (partition by track_id order by row_number) > 1
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
