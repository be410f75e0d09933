"""What makes the check of the committed ratios fail."""

from __future__ import annotations

import json

import pytest

from benchmarks import suite
from benchmarks.suite import Measured, check


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
