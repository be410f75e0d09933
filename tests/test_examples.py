"""The example notebook shows what is published: its cells run without marimo, and in marimo where it is installed."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest

from flows.python import benchmark, leaderboard, query
from tasks.specs import GENERATED
from tests.helpers.commands import ROOT
from tests.helpers.marimo import StandIn
from tests.helpers.runs import files
from tests.helpers.tracks import many

SHOWN = ("# Results", "## Leaderboard", "## The leak by protocol", "### Confusion", "### Calibration", "## One track")


def notebook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("explore_results", ROOT / "examples" / "explore_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(monkeypatch: pytest.MonkeyPatch, home: Any, **choices: Any) -> str:
    """All that the notebook shows of a warehouse. Args: choices: by the first word of their labels."""
    labels = {"Protocol": "Protocol", "Task": "Task", "Model": "Model of genre", "track_id": "track_id"}
    stand_in = StandIn({labels[name]: value for name, value in choices.items()})
    monkeypatch.setitem(sys.modules, "marimo", stand_in.module())
    monkeypatch.setenv("MUSIC_WAREHOUSE", str(home.root))
    notebook().app.run()
    return "\n".join(stand_in.said)


def test_the_notebook_shows_everything_and_writes_nothing(trained, monkeypatch) -> None:
    before = files(trained)
    text = shown(monkeypatch, trained)
    assert files(trained) == before
    assert [heading for heading in SHOWN if heading not in text] == []
    assert f"**{GENERATED}**" in text
    best = leaderboard(trained.root).filter(task="genre").sort("rank").row(0, named=True)
    assert f"{best['accuracy_low']:.3f} .. {best['accuracy_high']:.3f}" in text
    [(n,)] = query("select count(distinct true_genre) from results.confusion", warehouse=trained.root).rows()
    assert text.count("rgba(") == n * n


def test_the_notebook_shows_what_is_chosen(trained, monkeypatch) -> None:
    sql = """
        select track_id, artist_name, y_true, y_pred from results.predictions join staging.stg_tracks using (track_id)
        where task = 'popularity' and split = 'test' and model = 'gradient_boosting' order by track_id desc limit 1
    """
    [(track, artist, true, predicted)] = query(sql, warehouse=trained.root).rows()
    text = shown(monkeypatch, trained, Task="popularity", track_id=track, Model="logistic_regression on all")
    assert "## Leaderboard: RMSE" in text
    assert f" by {artist}" in text
    assert f">{true:.1f}</td>" in text
    assert f">{predicted:.1f}</td>" in text
    assert "It is not in this test split" in shown(monkeypatch, trained, track_id=-1)


@pytest.mark.long
def test_real_tracks_of_any_name_and_their_leaks_are_shown_without_a_genre_model(
    warehouse, tmp_path, monkeypatch
) -> None:
    many(200).write_csv(tmp_path / "<b>t.csv")
    asked = {"protocol": "main", "models": ["linear"], "feature_sets": ["all"], "workers": 1}
    benchmark(tmp_path / "<b>t.csv", warehouse=warehouse.root, progress=False, **asked)
    text = shown(monkeypatch, warehouse)
    assert GENERATED not in text
    assert "<code>&lt;b&gt;t.csv</code>" in text
    assert ">imputation</td>" in text
    assert "No model of genre was trained" in text
    assert "### Confusion" not in text


def test_the_notebook_runs_in_marimo(trained, monkeypatch) -> None:
    pytest.importorskip("marimo", reason="marimo is not installed; the notebook's cells were run without it")
    monkeypatch.setenv("MUSIC_WAREHOUSE", str(trained.root))
    outputs, _ = notebook().app.run()
    text = "\n".join(getattr(output, "text", "") for output in outputs)
    assert "GENERATED DATA" in text
    assert all(word in text for word in ("Leaderboard", "leak by protocol", "Confusion", "Calibration", "One track"))
