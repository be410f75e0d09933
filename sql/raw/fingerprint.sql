-- One text for the content of staging.typed_tracks, whatever file format it came in: the ids and genres in their
-- order, and the sum of every feature and of popularity.
select
    concat_ws(
        '|',
        sum(popularity),
        bit_xor(md5_number_lower(concat_ws('|', row_number, track_id, music_genre))),
        {% for name in audio_features %}
        cast(round(sum({{ name }}), 2) as decimal(18, 2)){{ "," if not loop.last }}
        {% endfor %}
    ) as fingerprint
from staging.typed_tracks
