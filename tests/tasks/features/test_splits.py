from __future__ import annotations

import dataclasses
import functools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.preparing import build_each
from tasks.errors import ProtocolError
from tasks.features.build import build_features
from tasks.features.splits import SHARES, grouped_split, study_split
from tasks.ingest.read import ingest
from tasks.specs import PROBES, PROTOCOLS
from tests.helpers.amounts import amount
from tests.helpers.tracks import many


@st.composite
def grouped_tracks(draw) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(60, 600))
    return random.integers(0, draw(st.integers(1, 12)), n), random.geometric(draw(st.floats(0.01, 0.9)), n)


@given(grouped_tracks())
@settings(deadline=None, max_examples=amount(12, 60))
def test_no_group_is_on_two_sides_and_nothing_is_lost(tracks) -> None:
    genre, group = tracks
    try:
        parts = grouped_split(genre, group)
    except ProtocolError:
        return  # too few groups to fill three splits
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(genre)))
    members = [set(group[rows]) for rows in parts.values()]
    assert not members[0] & members[1]
    assert not members[0] & members[2]
    assert not members[1] & members[2]
    again = grouped_split(genre, group)
    assert all(np.array_equal(parts[name], again[name]) for name in SHARES)


def test_groups_fill_the_shares_by_genre() -> None:
    random = np.random.default_rng(0)
    genre, group = random.integers(0, 5, 20_000), random.zipf(1.5, 20_000)
    parts = grouped_split(genre, group)
    for code in range(5):
        for name, share in SHARES.items():
            rows = (genre[parts[name]] == code).sum() / (genre == code).sum()
            assert rows == pytest.approx(share, abs=0.005)


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(ProtocolError, match="nothing is left for"):
        grouped_split(np.array([0, 1] * 50), np.zeros(100, dtype=int))


def _assignment(frame: pl.DataFrame, protocol: str, warehouse) -> pl.DataFrame:
    path = warehouse.root / "source.csv"
    frame.write_csv(path)
    built = {
        row.table_name: row for row in build_features(ingest(str(path), {}, 1.0, warehouse), protocol, 5, warehouse)
    }
    return pl.read_parquet(warehouse.root / built["features.split_assignment"].path)


@pytest.mark.slow
def test_the_order_of_the_file_does_not_matter_to_cold_start(warehouse) -> None:
    frame = many(600)
    one = _assignment(frame, "cold_start", warehouse).sort("track_id")
    other = _assignment(frame.sample(fraction=1.0, shuffle=True, seed=3), "cold_start", warehouse).sort("track_id")
    assert one.equals(other)


@pytest.mark.slow
@pytest.mark.parametrize("left_out", ["recordings", "artists"])
def test_probes_leave_training_rows_out_and_nothing_else(left_out, warehouse) -> None:
    frame = many(600).with_columns(artist_name=pl.int_range(pl.len()).floordiv(6).cast(pl.String))
    whole = _assignment(frame, "label_free", warehouse)
    apart, control = (_assignment(frame, f"{left_out}_{kind}", warehouse) for kind in ("apart", "any"))
    for split in ("val", "test"):
        expected = whole.filter(split=split)["track_id"].to_list()
        assert apart.filter(split=split)["track_id"].to_list() == expected
        assert control.filter(split=split)["track_id"].to_list() == expected
    assert apart.filter(split="unused").height == control.filter(split="unused").height > 0
    assert set(apart.filter(split="unused")["track_id"]) != set(control.filter(split="unused")["track_id"])
    if left_out == "recordings":
        ten = ["acousticness", "danceability", "energy", "instrumentalness", "key", "liveness", "loudness", "mode",
               "speechiness", "valence"]  # fmt: skip
        of_track = frame.select(pl.col("instance_id").cast(pl.Float64).cast(pl.Int64).alias("track_id"), *ten)
        sides = [apart.filter(split=split).join(of_track, on="track_id").select(ten) for split in ("train", "test")]
        assert sides[0].join(sides[1], on=ten, how="semi").height == 0
        both = [control.filter(split=split).join(of_track, on="track_id").select(ten) for split in ("train", "test")]
        assert both[0].join(both[1], on=ten, how="semi").height > 0
    if left_out == "artists":
        artist = dict(frame.select(pl.col("instance_id").cast(pl.Float64).cast(pl.Int64), "artist_name").iter_rows())
        test = {artist[track] for track in apart.filter(split="test")["track_id"]}
        assert not test & {artist[track] for track in apart.filter(split="train")["track_id"]}


@pytest.mark.slow
def test_a_leak_that_cannot_be_measured_is_logged_and_stops_only_itself(warehouse) -> None:
    frame = many(600).with_columns(artist_name=(pl.int_range(pl.len()) % 3).cast(pl.String))
    with pytest.raises(ProtocolError, match=r"artists_apart cannot be measured: .* 0 are left"):
        _assignment(frame, "artists_apart", warehouse)
    snapshot = ingest(str(warehouse.root / "source.csv"), {}, 1.0, warehouse)
    logged: list[str] = []
    build = functools.partial(build_features, snapshot, min_genre_rows=5, warehouse=warehouse)
    built = build_each(["label_free", "artists_apart"], build, logged.append)
    assert {table.protocol for table in built} == {"label_free", None}
    assert len(built) == len(build_features(snapshot, "label_free", 5, warehouse))
    assert [line[:32] for line in logged] == ["artists_apart cannot be measured"]
    impossible = ["artists_apart", "artists_any"]
    with pytest.raises(ProtocolError, match="artists_apart cannot be measured"):
        build_each(impossible, build, logged.append)


def test_every_probe_has_a_control() -> None:
    for probe in PROBES.values():
        twins = [other for other in PROBES.values() if other.left_out == probe.left_out]
        assert {twin.is_control for twin in twins} == {True, False}
        same = dataclasses.replace(probe, name="", description="", left_out=None, is_control=False)
        label_free = dataclasses.replace(PROTOCOLS["label_free"], name="", description="")
        same = dataclasses.replace(same, default_models=label_free.default_models, checks=label_free.checks)
        assert same == label_free


@pytest.mark.slow
def test_the_real_file_has_8941_groups_and_splits_by_genre(real_file, warehouse) -> None:
    built = build_features(ingest(str(real_file), {}, 0.0, warehouse), "cold_start", 20, warehouse)
    tables = {row.table_name.split(".")[1]: pl.read_parquet(warehouse.root / row.path) for row in built}
    sizes = tables["track_groups"]["group_id"].value_counts()
    assert (sizes.height, sizes["count"].max()) == (8_941, 429)
    counts = tables["tracks_std"].group_by("split", "music_genre").len()
    wanted = {"train": 3_500, "val": 750, "test": 750}
    assert all(abs(n - wanted[split]) <= 25 for split, _, n in counts.iter_rows())


def test_every_split_of_the_study_has_its_share_of_each_genre() -> None:
    genre = np.repeat([0, 1, 2], [200, 600, 1200])
    counts = {name: np.bincount(genre[rows]).tolist() for name, rows in study_split(genre).items()}
    assert counts == {"train": [140, 420, 840], "val": [30, 90, 180], "test": [30, 90, 180]}
