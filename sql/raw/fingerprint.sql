-- The content of staging.typed_tracks as one text that does not depend on the file format: for each genre its number of
-- rows, their ids and positions in the file, and the sums of popularity and of every audio feature.
with

genres as (
    select
        music_genre,
        concat_ws(
            '|',
            music_genre,
            count(*),
            sum(cast(row_number as hugeint) * track_id),
            sum(popularity),
            {% for name in audio_features %}
            cast(round(sum({{ name }}), 2) as decimal(18, 2)){{ "," if not loop.last }}
            {% endfor %}
        ) as content
    from staging.typed_tracks
    group by music_genre
)

select string_agg(content, '|' order by music_genre nulls first) as fingerprint from genres
