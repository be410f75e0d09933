"""What makes the check of the committed ratios fail, and whether what stands beside us does the same."""

from __future__ import annotations

import json

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from benchmarks import scale, suite
from benchmarks.suite import Measured, check
from tasks.sample import write_sample


@pytest.fixture
def committed(tmp_path, monkeypatch) -> None:
    rows = [{"name": "slow", "baseline": "x", "ratio": 1.0}, {"name": "steady", "baseline": "x", "ratio": 2.0}]
    (tmp_path / "bench.json").write_text(json.dumps({"measured": rows}))
    monkeypatch.setattr(suite, "RESULTS", tmp_path)


@pytest.mark.parametrize(
    ("ratios", "exit_code", "tries"),
    [([1.4], 0, 1), ([1.6, 1.4], 0, 2), ([1.6, 9.0, 1.5], 0, 3), ([1.6, 1.7, 1.8], 1, 3)],
)
def test_a_ratio_must_be_worse_three_times(ratios, exit_code, tries, committed, monkeypatch, capsys) -> None:
    asked: list[list[str]] = []

    def measure(parts: list[str]) -> dict[str, list[Measured]]:
        asked.append(parts)
        found = {"a": [Measured("slow", "x", ratios[len(asked) - 1], 1.0)], "b": [Measured("steady", "x", 2.9, 1.0)]}
        return {part: found[part] for part in parts}

    monkeypatch.setattr(suite, "measure", measure)
    assert check(["a", "b"]) == exit_code
    assert asked == [["a", "b"], *[["a"]] * (tries - 1)]
    assert ("slow: 1.60 at best, 1.00 committed" in capsys.readouterr().err) == bool(exit_code)


def test_what_was_never_committed_cannot_be_worse(committed, monkeypatch) -> None:
    monkeypatch.setattr(suite, "measure", lambda _: {"a": [Measured("new", "x", 99.0, 1.0)]})
    assert check(["a"]) == 0


def test_a_ratio_to_something_else_is_not_compared(committed, monkeypatch, capsys) -> None:
    monkeypatch.setattr(suite, "measure", lambda _: {"a": [Measured("slow", "y", 0.5, 1.0)]})
    assert check(["a"]) == 1
    assert "slow: is measured beside something else now" in capsys.readouterr().err


def test_the_tables_that_polars_prepares_for_comparison_are_ours(tmp_path) -> None:
    csv, home = tmp_path / "tracks.csv", tmp_path / "music"
    write_sample(csv, 20_000)
    row, frame = pl.int_range(pl.len()), pl.read_csv(csv, infer_schema=False)
    frame.with_columns(
        instance_id=pl.when(row == 70).then(pl.col("instance_id").first()).otherwise("instance_id"),
        energy=pl.when(row % 500 == 1).then(pl.lit("loud")).otherwise("energy"),
        tempo=pl.when(row % 700 == 2).then(pl.lit("fast")).otherwise("tempo"),
        music_genre=pl.when(row % 900 == 3).then(None).otherwise("music_genre"),
    ).write_csv(csv)
    (tmp_path / "polars").mkdir()
    scale.prepare_polars(csv, tmp_path / "polars")
    scale.prepare_music(csv, home)
    features = ("split_assignment", "tracks_clean", "tracks_one_hot", "tracks_std", "tracks_pca", "tracks_multitask")
    staging = ("typed_tracks", "stg_tracks")
    for schema, name in [("staging", name) for name in staging] + [("features", name) for name in features]:
        [path] = (home / schema / name).iterdir()
        ours, theirs = (
            pl.read_parquet(file).sort("row_number" if schema == "staging" else "track_id")
            for file in (path, tmp_path / "polars" / f"{name}.parquet")
        )
        assert_frame_equal(ours, theirs, check_column_order=False, check_dtypes=False, rel_tol=0, abs_tol=1e-6)
    [path] = (home / "raw" / "rejects").iterdir()
    rejected = [pl.read_parquet(file)["row_number"].sort() for file in (path, tmp_path / "polars" / "rejects.parquet")]
    assert len(rejected[0]) > 60
    assert rejected[0].to_list() == rejected[1].to_list()
