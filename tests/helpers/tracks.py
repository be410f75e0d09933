"""Rows as they stand in raw files."""

from __future__ import annotations

import polars as pl

from tasks.ingest import sample
from tasks.ingest.columns import EXPECTED

TRACK = {
    "instance_id": "1",
    "artist_name": "An Artist",
    "track_name": "A Track",
    "popularity": "50",
    "acousticness": "0.1",
    "danceability": "0.2",
    "duration_ms": "200000",
    "energy": "0.3",
    "instrumentalness": "0.4",
    "key": "C#",
    "liveness": "0.5",
    "loudness": "-6.5",
    "mode": "Minor",
    "speechiness": "0.6",
    "tempo": "120.5",
    "obtained_date": "4-Apr",
    "valence": "0.7",
    "music_genre": "Rap",
}


def tracks(*changes: dict[str, str | None], **same: str | None) -> pl.DataFrame:
    """Rows like TRACK, each with changes; instance_id counts up unless given."""
    rows = [TRACK | {"instance_id": str(number + 1)} | same | change for number, change in enumerate(changes)]
    return pl.DataFrame(rows, schema=dict.fromkeys(rows[0], pl.String))


def many(n: int = 100, genres: tuple[str, ...] = ("Jazz", "Rap")) -> pl.DataFrame:
    """n varied valid rows over the genres: enough to split and train on."""
    frame = pl.concat(sample.generate(n, seed=1))
    return frame.with_columns(
        music_genre=pl.Series([genres[i % len(genres)] for i in range(frame.height)], dtype=pl.String)
    )


def labelled(names: tuple[str, ...], rows_each: int = 30) -> pl.DataFrame:
    """Tracks of these genres, with the same texts in their names and artists; the first 100 rows are plain."""
    plain = many(100)
    rest = many(rows_each * len(names), names).with_columns(
        artist_name=pl.col("music_genre") + pl.int_range(pl.len()).cast(pl.String),
        track_name=pl.col("music_genre") + '\'s\n"track"',
        instance_id=(1_000_000 + pl.int_range(pl.len())).cast(pl.String),
    )
    return pl.concat([plain, rest])


assert list(TRACK) == EXPECTED
