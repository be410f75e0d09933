-- raw.bad_values: one row per value that is present but cannot be used, and one (audio features) per row of the file
-- without any audio feature. A row of the file may have several. From staging.typed_tracks and raw.tracks.
-- A missing audio feature is not bad, because it is filled. A missing target is bad; targets are the columns of the
-- file that must have a value. If has_genre, rows without a genre are not checked, because staging drops them.
-- A text is looked up in raw.tracks only where its number or code is NULL, and only in the file's own columns
-- (measured, which may contain mode).
with

suspects as (
    select *
    from staging.typed_tracks
    where
        {% if has_genre %}music_genre is not null and {% endif %}
        (
            track_id is null
            {% for name in measured %}
                or {{ "mode_code" if name == "mode" else name }} is null
            {% endfor %}
            {% for name in targets %}
                or {{ name }} is null
            {% endfor %}
            or (tempo is null and not is_tempo_missing)
            or (duration_ms is null and not is_duration_missing)
            or (key_code is null and not is_key_missing)
            or coalesce({{ audio_features | join(", ") }}) is null
        )
),

checked as (
    select
        suspects.row_number,
        case when suspects.track_id is null then 'not a whole number' end as instance_id,
        {% for name in targets %}
            case when suspects.{{ name }} is null then 'not a number from 0 to 100' end as {{ name }},
        {% endfor %}
        {% for name in measured if name != "mode" %}
            case when suspects.{{ name }} is null and not is_missing(texts.{{ name }}) then 'not a finite number' end
                as {{ name }},
        {% endfor %}
        case when suspects.tempo is null and not suspects.is_tempo_missing then 'not a positive number' end as tempo,
        case when suspects.duration_ms is null and not suspects.is_duration_missing then 'not a positive number' end
            as duration_ms,
        case
            when suspects.key_code is null and not suspects.is_key_missing
                then 'not a key name or a pitch class 0..11, or in another mode than column mode says'
        end as "key",
        case
            when suspects.mode_code is null and not is_missing(texts."mode")
                then 'not Major, Minor, true, false, 1 or 0'
        end as "mode",
        case
            when coalesce(suspects.{{ audio_features | join(", suspects.") }}) is null
                then 'none of the twelve is there'
        end as audio_features
    from suspects
    inner join raw.tracks as texts on suspects.row_number = texts.row_number
),

bad_values as (
    unpivot checked
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
)

select
    bad_values.row_number,
    replace(bad_values.column_name, '_features', ' features') as column_name,
    bad_values.error || case
        when bad_values.column_name = 'audio_features' then ''
        when texts.value is null then ': empty'
        else ': ''' || left(texts.value, 60) || ''''
    end as error
from bad_values
left join texts
    on
        bad_values.row_number = texts.row_number
        and bad_values.column_name = texts.column_name
-- The reject of a row without audio features is left out where the row has other rejects.
qualify
    bad_values.column_name <> 'audio_features'
    or count(*) over (partition by bad_values.row_number) = 1
