-- raw.rejects of tracks to predict: one row per bad value, and one for each row in which no audio feature is there.
-- From staging.typed_tracks beside raw.tracks. A missing value is no reject: it is filled. `blank` rows hold nothing
-- besides an id: targets are not read. Grain: row_number, column_name.
-- A value is looked up in raw.tracks only where its number or code is NULL, and only in columns that the file has
-- (measured_features, has_mode). Blank rows are looked for only where rows are missing from staging.typed_tracks.
with

suspects as (
    select *
    from staging.typed_tracks
    where
        track_id is null
        {% for name in measured_features %} or {{ name }} is null{% endfor %}
        or (tempo is null and not is_tempo_missing)
        or (duration_ms is null and not is_duration_missing)
        or (key_code is null and not is_key_missing)
        {% if has_mode %} or mode_code is null{% endif %}
        or coalesce({{ audio_features | join(", ") }}) is null
),

checked as (
    select
        suspects.row_number,
        case when suspects.track_id is null then 'not a whole number' end as instance_id,
        {% for name in measured_features %}
            case
                when
                    suspects.{{ name }} is null
                    and coalesce(trim(texts.{{ name }}) not in ('?', ''), false)
                    then 'not a finite number'
            end as {{ name }},
        {% endfor %}
        case when suspects.tempo is null and not suspects.is_tempo_missing then 'not a positive number' end as tempo,
        case when suspects.duration_ms is null and not suspects.is_duration_missing then 'not a positive number' end
            as duration_ms,
        case
            when suspects.key_code is null and not suspects.is_key_missing
                then 'not a key name or a pitch class 0..11'
        end as "key",
        case
            when suspects.mode_code is null and coalesce(trim(texts."mode") not in ('?', ''), false)
                then 'not Major, Minor, 1 or 0'
        end as "mode",
        coalesce(suspects.{{ audio_features | join(", suspects.") }}) is null as is_empty
    from suspects
    inner join raw.tracks as texts on suspects.row_number = texts.row_number
),

bad_values as (
    unpivot (select * exclude (is_empty) from checked)
    on columns(* exclude (row_number))
    into name column_name value error
),

texts as (
    unpivot (
        select * exclude (obtained_date)
        from raw.tracks
        where row_number in (select row_number from bad_values)
    )
    on columns(* exclude (row_number))
    into name column_name value value
),

reasons as (
    select
        bad_values.row_number,
        bad_values.column_name,
        bad_values.error || case
            when texts.value is null then ': empty'
            else ': ''' || left(texts.value, 60) || ''''
        end as error,
        false as is_blank
    from bad_values
    left join texts
        on
            bad_values.row_number = texts.row_number
            and bad_values.column_name = texts.column_name
    union all
    select
        row_number,
        'audio features' as column_name,
        'none of the twelve is there' as error,
        false as is_blank
    from checked
    where
        is_empty
        and row_number not in (select row_number from bad_values)
    {% if has_blank_rows %}
    union all
    select
        tracks.row_number,
        'audio features' as column_name,
        'blank row' as error,
        true as is_blank
    from raw.tracks as tracks
    anti join staging.typed_tracks as typed on tracks.row_number = typed.row_number
    {% endif %}
)

select * from reasons
order by row_number, column_name
