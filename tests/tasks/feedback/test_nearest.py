"""Nearest tracks: the SELECT against brute force, duplicates and ties included."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import UserError
from tasks.features.build import build_features
from tasks.feedback import nearest
from tasks.feedback.nearest import known_tracks, search
from tasks.feedback.track import selected_track
from tasks.ingest.read import ingest
from tasks.specs import AUDIO_FEATURES
from tasks.storage import duck
from tests.helpers.amounts import amount
from tests.helpers.tracks import TRACK, tracks

NAMES = [name for name in AUDIO_FEATURES if name not in {"tempo", "duration_ms"}]  # of what a recording is known by


def brute_force(known: pl.DataFrame, z: pl.DataFrame, own: np.ndarray, k: int, left_out: tuple | None) -> list[tuple]:
    """(track_id, distance) by NumPy: of each recording the nearest row, of equals the lowest id."""
    distance = np.sqrt(((z.select(AUDIO_FEATURES).to_numpy() - own) ** 2).sum(axis=1))
    best: dict[tuple, tuple] = {}
    for recording, track_id, far in zip(known.select(NAMES).rows(), known["track_id"], distance, strict=True):
        if recording != left_out:
            best[recording] = min(best.get(recording, (np.inf, 0)), (far, track_id))
    return [(track_id, far) for far, track_id in sorted(best.values())[:k]]


# Whole numbers, so that distances are exact and often tie; a key may be missing, and is filled with 1.
ROW = st.tuples(st.integers(0, 2), st.integers(0, 1), st.sampled_from([0.0, 1.0, None]), st.integers(0, 1))


@pytest.mark.slow
@settings(max_examples=amount(12, 60), deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=60), own=ROW, k=st.integers(1, 8), at=st.integers(0, 59))
def test_the_select_finds_what_brute_force_finds(rows, own, k, at) -> None:
    is_known = at < len(rows)
    own = rows[at] if is_known else own

    def frame(values: list[tuple]) -> pl.DataFrame:
        columns = dict(zip(("energy", "tempo", "key_code", "loudness"), zip(*values, strict=True), strict=True))
        data = {name: columns.get(name, [0.0] * len(values)) for name in AUDIO_FEATURES}
        return pl.DataFrame(data, schema=dict.fromkeys(AUDIO_FEATURES, pl.Float64), strict=False)

    ids = pl.Series("track_id", [(7 * place) % 61 + 1 for place in range(len(rows))])
    known = frame(rows).with_columns(ids, artist_name=None, track_name=None, music_genre=None, popularity=None)
    z = known.with_columns(pl.col("key_code").fill_null(1.0))
    given_row = frame([own])
    given_z = given_row.with_columns(pl.col("key_code").fill_null(1.0))
    with duck.connect() as connection:
        for name, table in (("known_tracks", known), ("known_std", z)):
            connection.register(name, table.to_arrow())
        for name, table in (("staging.stg_tracks", given_row), ("features.tracks_std", given_z)):
            connection.register("here", table.to_arrow())
            connection.execute(f"create table {name} as select * from here")
        found = search(connection, k, len(rows), is_known=is_known)
    expected = brute_force(
        known, z, given_z.select(AUDIO_FEATURES).to_numpy()[0], k, given_row.select(NAMES).row(0) if is_known else None
    )
    assert list(zip(found["track_id"].to_pylist(), found["distance"].to_pylist(), strict=True)) == expected


def test_known_tracks_of_a_warehouse_and_recordings_listed_many_times(trained, monkeypatch) -> None:
    monkeypatch.setattr(nearest, "AT_FIRST", 1)  # so that it has to look again
    known = known_tracks(trained)
    stored = pl.read_parquet(known.tracks).sort("track_id")
    z = pl.read_parquet(known.standardized).sort("track_id")
    listed_twice = stored.filter(pl.struct(NAMES).is_duplicated())["track_id"]
    assert listed_twice.len() > 10
    for track_id in (int(listed_twice[0]), int(stored["track_id"][5])):
        own = z.filter(track_id=track_id).select(AUDIO_FEATURES).to_numpy()[0]
        recording = stored.filter(track_id=track_id).select(NAMES).row(0)
        with selected_track(None, track_id, {}, known, trained) as chosen:
            found = nearest.nearest(chosen.connection, known, chosen.row_number, 200, is_known=True)
        expected = brute_force(stored, z, own, 200, recording)
        np.testing.assert_allclose(found["distance"].to_numpy(), [far for _, far in expected], rtol=1e-12)
        assert found["track_id"].to_pylist() == [track_id for track_id, _ in expected]


def test_a_new_track_that_is_known_already_is_found_with_a_distance_of_zero(trained, tmp_path) -> None:
    known = known_tracks(trained)
    stored = pl.read_parquet(known.tracks).filter(~pl.col("is_tempo_missing") & ~pl.col("is_duration_missing"))
    row = stored.filter(pl.col("key_code").is_not_null()).row(0, named=True)
    columns = [name for name in AUDIO_FEATURES if name not in {"key_code", "mode_code"}]
    given_row = {name: repr(row[name]) for name in columns} | {"key": row["key_code"], "mode": row["mode_code"]}
    pl.DataFrame([given_row]).write_csv(tmp_path / "t.csv")
    with selected_track(str(tmp_path / "t.csv"), None, {}, known, trained) as chosen:
        found = nearest.nearest(chosen.connection, known, chosen.row_number, 3).to_pylist()
    assert found[0]["distance"] == pytest.approx(0, abs=1e-3)  # tempo is rounded to 3 decimals, as in training
    assert found[0]["track_name"] == row["track_name"]
    assert found[1]["distance"] > 0.01


@pytest.mark.parametrize(
    ("track_id", "rows", "message"),
    [
        (None, [{}, {}], "has more than one track. Choose one with --track-id: 1, 2."),
        (7, [{}], "has no track with id 7"),
        (1, [{}, {"instance_id": "1"}], "has id 1 more than once (rows 1 and 2)"),
        (1, [{"energy": "loud"}], "row 1 was rejected: energy: not a finite number: 'loud'"),
    ],
)
def test_a_track_that_cannot_be_chosen_is_told_in_one_line(trained, tmp_path, track_id, rows, message) -> None:
    tracks(*rows).write_csv(tmp_path / "t.csv")
    known = known_tracks(trained)
    with pytest.raises(UserError) as refused, selected_track(str(tmp_path / "t.csv"), track_id, {}, known, trained):
        pass
    assert message in str(refused.value)


def test_other_things_that_are_refused(trained, tmp_path) -> None:
    known = known_tracks(trained)
    with pytest.raises(UserError, match="Which track"), selected_track(None, None, {}, known, trained):
        pass
    with (
        pytest.raises(UserError, match=r"none of the [\d,]+ known tracks"),
        selected_track(None, -5, {}, known, trained),
    ):
        pass
    pl.DataFrame([TRACK]).write_csv(tmp_path / "t.csv")
    with selected_track(str(tmp_path / "t.csv"), 1, {}, known, trained) as chosen:
        for k in (0, 1001):
            with pytest.raises(UserError, match="from 1 to 1,000"):
                nearest.nearest(chosen.connection, known, 1, k)
        with pytest.raises(UserError, match="cannot be compared"):
            nearest.nearest(chosen.connection, known, 2, 1)


def test_a_warehouse_prepared_by_the_studys_protocol_alone_knows_no_tracks(warehouse) -> None:
    build_features(ingest("sample:300", {}, 0.05, warehouse), "published", 5, warehouse)
    with pytest.raises(UserError, match="--protocol cold_start"):
        known_tracks(warehouse)
