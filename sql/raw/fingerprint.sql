-- One text for the content of staging.typed_tracks, whatever file format it came in: for each genre the number of its
-- rows, their ids and places in the file, and the sum of every feature and of popularity.
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
