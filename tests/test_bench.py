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
    rows = [{"name": "slow", "ratio": 1.0}, {"name": "steady", "ratio": 2.0}]
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


def test_the_tables_that_polars_prepares_for_comparison_are_ours(tmp_path) -> None:
    csv, home = tmp_path / "tracks.csv", tmp_path / "music"
    write_sample(csv, 20_000)
    (tmp_path / "polars").mkdir()
    scale.prepare_polars(csv, tmp_path / "polars")
    scale.prepare_music(csv, home)
    for name in ("split_assignment", "tracks_clean", "tracks_one_hot", "tracks_std", "tracks_pca", "tracks_multitask"):
        [path] = (home / "features" / name).iterdir()
        ours, theirs = (
            pl.read_parquet(file).sort("track_id") for file in (path, tmp_path / "polars" / f"{name}.parquet")
        )
        assert_frame_equal(ours, theirs, check_column_order=False, check_dtypes=False, rel_tol=0, abs_tol=1e-6)
