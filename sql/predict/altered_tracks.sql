-- staging.typed_tracks of what-if: the track of given_track once for each row of features.ranges, that feature set to
-- that value and all others as they are. From row 1 on in the order of feature_name and value.
select
    row_number() over (order by ranges.feature_name, ranges.value) as row_number,
    given.track_id,
    {% for name in audio_features %}
        case when ranges.feature_name = '{{ name }}' then ranges.value else given.{{ name }} end as {{ name }},
    {% endfor %}
    given.is_tempo_missing and ranges.feature_name <> 'tempo' as is_tempo_missing,
    given.is_duration_missing and ranges.feature_name <> 'duration_ms' as is_duration_missing,
    given.is_key_missing and ranges.feature_name <> 'key_code' as is_key_missing
from given_track as given
cross join features.ranges as ranges
order by row_number
