"""Drift: what chance explains is no alarm, at any number of rows; what really changed is one, by name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from tasks.features.build import build_features
from tasks.ingest import sample
from tasks.ingest.columns import EXPECTED
from tasks.ingest.read import Append, ingest
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse
from tasks.training.drift import Drift, Statistic, judged, measure, measure_source, source_drift

REAL = os.environ.get("MUSIC_SOURCE")
real = pytest.mark.skipif(not REAL, reason="$MUSIC_SOURCE names no file")
GENRES = ("Jazz", "Rap")
KEYS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


@pytest.fixture
def connection(tmp_path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duck.workspace(spill=tmp_path) as connection:
        yield connection


def of_counts(
    connection: duckdb.DuckDBPyConnection, reference: np.ndarray, now: np.ndarray, column: str = "energy"
) -> list[Statistic]:
    """Judges tables of counts, (n_columns, n_bins) each: one made-up column of numbers a row."""
    counts = pl.concat(
        pl.DataFrame({"bin": range(len(before)), "n_reference": before, "n": after}).with_columns(
            pl.lit("distribution").alias("statistic"),
            pl.col("bin").cast(pl.String),
            column_name=pl.lit(column if len(reference) == 1 else f"{column}{at:05}"),
        )
        for at, (before, after) in enumerate(zip(reference, now, strict=True))
    )
    connection.register("drift_counts", counts.to_arrow())
    return judged(connection)


def drawn(n: int, shares: list[float], times: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).multinomial(n, shares, size=times)


TENTHS = [0.1] * 10
UNEVEN = [0.9, 0.05, 0.02, 0.01, 0.01, 0.004, 0.003, 0.002, 0.0009, 0.0001]


@pytest.mark.parametrize("shares", [TENTHS, UNEVEN, [0.6, 0.4]], ids=["deciles", "uneven", "two bins"])
@pytest.mark.parametrize(
    ("n_reference", "n"),
    [(50_000_000, 50_000_000), (50_000_000, 500), (35_000, 500), (500, 500), (150, 150), (35_000, 5), (5, 5)],
)
def test_two_samples_of_one_distribution_do_not_alarm(connection, n_reference, n, shares) -> None:
    found = of_counts(connection, drawn(n_reference, shares, 200, 1), drawn(n, shares, 200, 2))
    assert len(found) == 200
    assert [one for one in found if one.is_drifted] == []
    if n == 5:
        assert {one.status for one in found} == {"too few rows"}
    if n_reference >= 35_000 and n >= 500:
        assert {one.status for one in found} == {"stable"}


def test_what_chance_gives_is_as_expected(connection) -> None:
    found = of_counts(connection, drawn(2_000, TENTHS, 4_000, 3), drawn(500, TENTHS, 4_000, 4))
    psi = np.array([one.psi for one in found])
    assert psi.mean() == pytest.approx(9 * (1 / 500 + 1 / 2_000), rel=0.04)
    assert found[0].psi_expected == pytest.approx(0.0225)
    assert found[0].psi_by_chance == pytest.approx(27.877 * 0.0025, rel=0.02)  # chi-squared, 9 degrees, 0.999
    assert np.mean(psi > found[0].psi_by_chance) < 0.004


@pytest.mark.parametrize("n", [500, 50_000, 50_000_000])
@pytest.mark.parametrize(
    ("share", "psi", "status"), [(0.45, 0.01, "stable"), (0.3, 0.169, "moderate"), (0.2, 0.416, "large")]
)
def test_the_verdict_is_of_the_size_of_a_change_not_of_the_number_of_rows(connection, n, share, psi, status) -> None:
    now = [round(n * share), n - round(n * share)]
    [found] = of_counts(connection, np.array([[n // 2, n // 2]]), np.array([now]))
    assert (found.psi, found.status) == (pytest.approx(psi, abs=0.001), status)


def test_psi_is_the_published_formula_and_empty_bins_have_a_floor(connection) -> None:
    [found] = of_counts(connection, np.array([[5_000, 3_000, 2_000]]), np.array([[4_000, 3_000, 3_000]]))
    assert found.psi == pytest.approx((0.4 - 0.5) * np.log(0.4 / 0.5) + (0.3 - 0.2) * np.log(0.3 / 0.2))
    for n in (10_000, 50_000_000):
        [found] = of_counts(connection, np.array([[n // 2, n // 2]]), np.array([[n, 0]]))
        assert found.psi == pytest.approx(0.5 * np.log(2) + 0.4999 * np.log(0.5 / 0.0001), rel=1e-6)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (([5_000, 4_000, 0], [5_000, 4_000, 40]), [("new genre", "2", "large")]),
        (([5_000, 4_000, 40], [5_000, 4_000, 0]), [("vanished genre", "2", "large")]),
        (([5_000, 4_000, 2], [5_000, 4_000, 0]), [("vanished genre", "2", "too few rows")]),
        (([50_000_000, 1], [50_000_000, 0]), [("vanished genre", "1", "too few rows")]),
        (([35_000, 5_000], [5, 0]), [("vanished genre", "1", "too few rows")]),
        (([5_000, 4_000], [4_000, 5_000]), []),
    ],
)
def test_genres_that_only_one_side_has_are_named_unless_chance_explains_it(connection, counts, expected) -> None:
    before, now = (np.array([side]) for side in counts)
    found = of_counts(connection, before, now, "music_genre")
    changed = [(one.statistic, one.genre, one.status) for one in found if one.genre is not None]
    assert changed == expected


def test_rows_are_compared_by_value_missing_share_and_range(connection) -> None:
    numbers = ("energy", "mode_code", "key_code", "tempo")

    def rows(side: str, energy: str, mode: float, of: str) -> None:
        select = f"select {energy} as energy, {mode} as mode_code, i % 3 as key_code, null::double as tempo"
        connection.execute(f"create or replace view {side}_rows as {select} from range({of}) as t(i)")

    def found() -> dict[tuple[str, str], Statistic]:
        return {(one.column_name, one.statistic): one for one in measure(connection, numbers, has_genre=False)}

    uniform = "(hash(i) % 100000) / 100000.0"
    rows("reference", uniform, 1.0, "20000")
    rows("current", uniform, 1.0, "20000, 23000")
    alike = found()
    assert {one.status for one in alike.values()} == {"stable"}
    bins = {name: alike[name, "distribution"].bins for name in numbers[:3]}
    assert bins == {"energy": 10, "mode_code": 1, "key_code": 3}
    assert ("tempo", "distribution") not in alike  # it has no value to compare
    rows("current", "if(i % 2 = 0, null, i % 10 / 8.0)", 2.0, "1000")
    changed = found()
    assert {name for name, one in changed.items() if one.is_drifted} == {
        ("energy", "distribution"), ("energy", "missing"), ("energy", "outside"), ("mode_code", "outside"),
    }  # fmt: skip
    assert (changed["energy", "missing"].reference_share, changed["energy", "missing"].share) == (0.0, 0.5)
    assert changed["energy", "outside"].share == pytest.approx(0.2)  # 9 / 8 of 1, 3, 5, 7 and 9


def written(frame: pl.DataFrame, path: Path) -> str:
    frame.select(EXPECTED).write_csv(path)
    return str(path)


def tracks(n: int, seed: int) -> pl.DataFrame:
    frame = pl.concat(sample.generate(n, seed=seed))
    return frame.with_columns(music_genre=pl.Series([GENRES[i % 2] for i in range(n)], dtype=pl.String))


def compared(source: str, warehouse: Warehouse, append: Append | None = None, share: float = 0.05) -> Drift | None:
    """What a flow does: read, build, compare."""
    snapshot = ingest(source, {}, share, warehouse, append)
    build_features(snapshot, "published", 20, warehouse)
    return source_drift(snapshot.snapshot, warehouse) or measure_source(snapshot, warehouse)


@pytest.mark.slow
def test_a_new_snapshot_is_compared_with_the_one_before_it_of_its_catalogue(warehouse, tmp_path) -> None:
    file, other = tmp_path / "tracks.csv", tmp_path / "other.csv"
    assert compared(written(tracks(1_500, 1), file), warehouse) is None
    assert compared(written(tracks(900, 5).with_columns(energy=pl.lit("0.99")), other), warehouse) is None

    again = compared(written(tracks(1_500, 2), file), warehouse)
    assert (again.status, again.warning, again.drifted) == ("stable", None, [])

    halved = (pl.col("energy").cast(pl.Float64) / 2).cast(pl.String)
    changed = written(tracks(1_500, 3).with_columns(energy=halved), file)
    found = compared(changed, warehouse)
    assert [one.column_name for one in found.drifted] == ["energy"]
    assert found.warning.startswith(f"DRIFT: tracks.csv differs from the snapshot before it, {found.reference}. large:")
    assert "energy (PSI " in found.warning

    snapshot = ingest(changed, {}, 0.05, warehouse)
    assert source_drift(snapshot.snapshot, warehouse).drifted == found.drifted
    assert compared(changed, warehouse) == found  # stored once
    assert len(warehouse.files("drift", "source")) == 2
    assert compared(written(tracks(1_500, 1), file), warehouse) is None  # read again: it is not new


@pytest.mark.slow
def test_appended_tracks_are_compared_alone_with_those_that_they_are_appended_to(warehouse, tmp_path) -> None:
    assert compared(written(tracks(3_000, 1), tmp_path / "tracks.csv"), warehouse) is None
    base = warehouse.files("raw", "snapshots")[0].stem
    more = tracks(400, 2).with_columns(
        mode=pl.lit("Minor"), instance_id=(2_000_000 + pl.int_range(pl.len())).cast(pl.String)
    )
    found = compared(written(more, tmp_path / "more.csv"), warehouse, Append(base, "kept"))
    assert {one.column_name for one in found.drifted} == {"mode_code"}
    assert {one.n for one in found.statistics if one.column_name == "energy"} == {400}
    assert found.reference == base


@pytest.fixture(scope="module")
def real_rows() -> pl.DataFrame:
    rows = pl.read_csv(str(REAL), infer_schema=False)
    return rows.filter(pl.col("music_genre").is_not_null())


@pytest.fixture(scope="module")
def has_read_it(tmp_path_factory, real_rows) -> Path:
    """A folder with the real file, and a warehouse that has read it."""
    folder = tmp_path_factory.mktemp("real")
    compared(written(real_rows, folder / "musicData.csv"), Warehouse.at(folder / "warehouse"))
    return folder


def number(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Float64, strict=False)


CHANGES = {
    "a resample": (lambda rows: rows.sample(50_000, with_replacement=True, seed=1).with_columns(
        instance_id=pl.int_range(pl.len()).cast(pl.String)), set()),
    "500 of its rows": (lambda rows: rows.drop_nulls().sample(500, seed=2), set()),
    "a scaled column": (lambda rows: rows.with_columns(
        danceability=(number("danceability") * 0.7).cast(pl.String)), {"danceability"}),
    "a lost genre": (lambda rows: rows.filter(pl.col("music_genre") != "Rap"), {"music_genre"}),
    "a mode turned round": (lambda rows: rows.with_columns(
        mode=pl.when(pl.col("mode") == "Major").then(pl.lit("Minor")).otherwise(pl.lit("Major"))), {"mode_code"}),
    "keys by number, in the order of fifths": (lambda rows: rows.with_columns(
        key=pl.col("key").replace_strict({key: str(7 * at % 12) for at, key in enumerate(KEYS)}, default=None)),
        {"key_code"}),
    "names of keys and modes in another spelling": (lambda rows: rows.with_columns(
        pl.col("mode").str.to_lowercase(),
        key=pl.col("key").replace_strict({key: str(at) for at, key in enumerate(KEYS)}, default=None)), set()),
    "another code for missing values": (lambda rows: rows.with_columns(
        tempo=pl.when(number("tempo").is_null()).then(pl.lit("120.0")).otherwise(pl.col("tempo"))), {"tempo"}),
}  # fmt: skip


@real
@pytest.mark.slow
@pytest.mark.parametrize(("change", "columns"), CHANGES.values(), ids=CHANGES)
def test_what_changed_in_the_real_file_is_named_and_nothing_else(
    has_read_it, real_rows, change, columns, tmp_path
) -> None:
    warehouse = Warehouse.at(shutil.copytree(has_read_it / "warehouse", tmp_path / "warehouse"))
    found = compared(written(change(real_rows), has_read_it / "musicData.csv"), warehouse)
    assert {one.column_name for one in found.drifted} == columns
    assert ("DRIFT: musicData.csv" in (found.warning or "")) == bool(columns)
