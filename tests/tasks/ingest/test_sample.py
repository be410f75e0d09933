from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tasks.ingest import sample
from tasks.ingest.columns import EXPECTED
from tasks.ingest.read import ingest


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return pl.concat(sample.generate(20_000))


def test_it_has_the_raw_files_shape(frame, warehouse) -> None:
    assert frame.columns == EXPECTED
    snapshot = ingest("sample:20000", {}, 0.0, warehouse)
    assert (snapshot.rows_read, snapshot.blank_rows, snapshot.rejected_rows) == (20_002, 2, 0)
    assert snapshot.is_generated
    assert not snapshot.is_study_file


def test_missing_codes_duplicates_and_artists(frame) -> None:
    rows = frame.filter(pl.col("music_genre").is_not_null())
    assert (rows["tempo"] == "?").mean() == pytest.approx(0.0996, abs=0.01)
    assert (rows["duration_ms"] == "-1.0").mean() == pytest.approx(0.0988, abs=0.01)
    assert (rows["artist_name"] == "empty_field").mean() == pytest.approx(0.0498, abs=0.01)
    recording = ["acousticness", "danceability", "energy", "instrumentalness", "liveness", "loudness", "valence"]
    assert rows.select(recording).is_duplicated().mean() == pytest.approx(0.16, abs=0.05)
    assert 500 < rows["artist_name"].n_unique() < 5_000
    assert rows["instance_id"].is_unique().all()


def test_it_is_the_same_for_the_same_seed(frame) -> None:
    assert pl.concat(sample.generate(20_000)).equals(frame)
    assert not pl.concat(sample.generate(20_000, seed=1)).equals(frame)


def test_it_follows_the_statistics_of_a_genre(frame) -> None:
    classical = frame.filter(music_genre="Classical")["acousticness"].cast(pl.Float64)
    rap = frame.filter(music_genre="Rap")["acousticness"].cast(pl.Float64)
    assert classical.median() > 0.9
    assert rap.median() < 0.2
    energy, loudness = (frame.filter(music_genre="Jazz")[name].cast(pl.Float64) for name in ("energy", "loudness"))
    assert np.corrcoef(energy, loudness)[0, 1] > 0.6


@pytest.mark.slow
def test_chunks_are_bounded() -> None:
    assert max(chunk.height for chunk in sample.generate(250_000)) <= sample.CHUNK_ROWS + 10
