from __future__ import annotations

import duckdb
import pytest

from tasks.ingest.columns import MEASURED
from tasks.storage import duck


@pytest.fixture
def tracks() -> duckdb.DuckDBPyConnection:
    """Five tracks: the first three one recording, under two genres; and what was dropped."""
    connection = duck.connect()
    measured = ", ".join(f"v as {name}" for name in MEASURED)
    connection.execute(f"""
        create table staging.stg_tracks as
        select n as row_number, n as track_id, artist as artist_name, tempo, genre as music_genre, 1.0 as key_code,
            1.0 as mode_code, {measured}
        from (values
            (1, 'a', 120.0, 'Rap', 0.1), (2, null, 121.0, 'Rap', 0.1), (3, 'a', null, 'Jazz', 0.1),
            (4, 'b', null, 'Rap', 0.2), (5, 'b', 120.0, 'Jazz', 0.3)
        ) as t(n, artist, tempo, genre, v);
        create table staging.rare_genres as select 'Polka' as music_genre, 3 as dropped_rows;
        create table raw.rejects as
        select * from (values
            (9, 'mode', 'not Major, Minor, 1 or 0: ''sad'''), (7, 'energy', 'not a finite number: ''a:b'''),
            (5, 'energy', 'not a finite number: empty')
        ) as t(line, column_name, error);
    """)
    return connection


def rows(connection: duckdb.DuckDBPyConnection, name: str) -> list[tuple]:
    return connection.execute(duck.render(f"quality/{name}")).fetchall()


def test_rejects_by_column_and_reason(tracks) -> None:
    assert rows(tracks, "rejects") == [
        ("energy", "not a finite number", 2, 5, "not a finite number: empty"),
        ("mode", "not Major, Minor, 1 or 0", 1, 9, "not Major, Minor, 1 or 0: 'sad'"),
    ]


def test_columns_with_missing_values(tracks) -> None:
    assert rows(tracks, "missing") == [("tempo", 2, 0.4), ("artist_name", 1, 0.2)]


def test_genres_kept_and_dropped(tracks) -> None:
    assert rows(tracks, "genres") == [("Rap", 3, False), ("Jazz", 2, False), ("Polka", 3, True)]


def test_recordings_listed_more_than_once(tracks) -> None:
    assert rows(tracks, "duplicates") == [(3, 1, 1)]
    tracks.execute("delete from staging.stg_tracks where track_id in (1, 2)")
    assert rows(tracks, "duplicates") == [(0, 0, 0)]
