-- features.fill_values of protocol `published`: the values that replace missing ones, per genre, fitted on ALL rows.
-- This is the study's rule, and it leaks: the filled value is a code for the genre. Duration has whole ms, tempo 3
-- decimals; key_code is the most frequent one (the lowest of several). No other feature is missing in the study's file.
-- In other files a missing feature gets the genre's mean, and mode_code the nearer mode. Rows with genre NULL hold the
-- value over all genres. It is used for a genre in which every value is missing, and if no track has a genre.
with

tracks as (select * from staging.stg_tracks),

missing as (
    unpivot (
        select
            {% for name in audio_features %}
                count(*) - count({{ name }}) as {{ name }},
            {% endfor %}
        from tracks
    )
    on *
    into name feature_name value n
),

means as (
    select
        music_genre as genre,
        {% for name in audio_features if name not in ("duration_ms", "key_code", "mode_code", "tempo") %}
            cast(printf('%.11e', favg({{ name }})) as double) as {{ name }},
        {% endfor %}
        round(favg(tempo), 3) as tempo,
        round(favg(duration_ms), 0) as duration_ms,
        round(favg(mode_code), 0) as mode_code
    from tracks
    group by grouping sets ((music_genre), ())
),

key_counts as (
    select
        music_genre as genre,
        key_code,
        count(*) as n
    from tracks
    where key_code is not null
    group by grouping sets ((music_genre, key_code), (key_code))
),

keys as (
    select
        genre,
        key_code
    from key_counts
    qualify row_number() over (partition by genre order by n desc, key_code) = 1
),

by_feature as (
    unpivot means
    on columns(* exclude (genre))
    into name feature_name value value
),

filled as (
    select
        feature_name,
        genre,
        value
    from by_feature
    where
        feature_name in ('tempo', 'duration_ms')
        or feature_name in (select missing.feature_name from missing where missing.n > 0)
    union all
    select
        'key_code' as feature_name,
        genre,
        key_code as value
    from keys
)

select distinct
    $protocol as protocol,
    feature_name,
    'fill' as statistic,
    genre,
    value
from filled
order by feature_name, genre nulls first
