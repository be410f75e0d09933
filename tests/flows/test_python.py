"""Calls from Python do what the commands do, without Prefect: `flows.python`, and the code of its page."""

from __future__ import annotations

import inspect
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import polars as pl
import pytest

from flows import benchmark as benchmark_flow
from flows import predict as predict_flow
from flows.python import UserError, benchmark, leaderboard, predict, query
from tasks.ingest.snapshots import stored_snapshots
from tasks.prediction.batch import predict_file
from tasks.prediction.predictor import PREDICTED
from tasks.specs import GENERATED
from tasks.storage.warehouse import Warehouse
from tests.helpers.commands import ROOT, clean_environment, in_training, refusal, scripted, until
from tests.helpers.tracks import many, tracks

SMALL = {"models": ["linear", "knn"], "feature_sets": ["all"], "budget": "smoke"}
OF_DASK = {"runner", "dask_address", "spread"}
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL)


def script(code: str, folder: Path, environment: dict[str, str]) -> list[str]:
    """The command that runs a script without a main module's guard, in a folder of its own."""
    (folder / "script.py").write_text(code, encoding="utf-8")
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))}
    return [sys.executable, "script.py"]


@pytest.mark.parametrize(
    ("function", "flow", "first", "only_here", "only_there"),
    [
        (benchmark, benchmark_flow.benchmark, "source", {"progress"}, OF_DASK),
        (predict, predict_flow.predict, "tracks", set(), {"out"}),
    ],
    ids=["benchmark", "predict"],
)
def test_a_function_has_the_parameters_of_its_flow(function, flow, first, only_here, only_there) -> None:
    ours, theirs = inspect.signature(function).parameters, inspect.signature(flow).parameters
    assert set(ours) - set(theirs) == only_here
    assert set(theirs) - set(ours) == only_there
    assert ours[first].default is inspect.Parameter.empty
    same = set(ours) & set(theirs) - {first}
    assert {name: ours[name].default for name in same} == {name: theirs[name].default for name in same}
    assert [name for name in ours if not re.search(rf"(?m)^ +{name}: ", function.__doc__)] == []


@pytest.mark.long
def test_the_code_of_the_page_runs_as_a_script_without_prefect(tmp_path) -> None:
    many(600, ("Jazz", "Rap", "Rock")).write_csv(tmp_path / "musicData.csv")
    environment = clean_environment(POLARS_FMT_STR_LEN="80")
    code = "".join([*BLOCKS, "\nimport sys\nassert 'prefect' not in sys.modules\n"])
    done = subprocess.run(
        script(code, tmp_path, environment), cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert " completed []" in done.stdout
    assert "energy: not a finite number: 'loud'" in done.stdout
    assert "3 of 3 cells ok, 0 reused; report " in done.stderr
    assert "UserWarning: audio features without a value, filled for every row: acousticness" in done.stderr


@pytest.mark.slow
def test_a_frame_is_trained_on_once_whatever_library_holds_it(tmp_path, capfd) -> None:
    frame, home = many(300), str(tmp_path / "w")
    first = benchmark(frame, protocol="label_free", warehouse=home, **SMALL)
    assert "frame: 300 rows read\n" in capfd.readouterr().err
    again = benchmark(frame.to_pandas(), protocol="label_free", warehouse=Path(home), progress=False, **SMALL)
    assert capfd.readouterr() == ("", "")
    assert [(cell.status, cell.reused) for cell in (*first.cells, *again.cells)] == [
        ("ok", False), ("ok", False), ("ok", True), ("ok", True),
    ]  # fmt: skip
    assert [one.source for one in stored_snapshots(Warehouse.at(home)).values()] == ["frame"]
    runs = query("select run_id, status, source, runner, flow_run_id from results.runs order by 1", warehouse=home)
    assert runs.rows() == [(one.run_id, "completed", "frame", "local", None) for one in (first, again)]
    assert first.report.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert set(leaderboard(home)["model"]) == {"linear", "knn"}
    champions = query("select task from results.champions where is_current order by 1", warehouse=home)
    assert champions["task"].to_list() == ["genre", "popularity"]


def test_every_row_is_predicted_as_by_the_command_or_has_a_problem(trained, tmp_path) -> None:
    blank = dict.fromkeys(tracks({}).columns, "") | {"instance_id": "9"}
    frame = tracks({}, {"energy": "loud", "tempo": "-5"}, {"energy": ""}, blank, {})
    frame.write_csv(tmp_path / "t.csv")
    outcome = predict_file(str(tmp_path / "t.csv"), str(tmp_path / "p.parquet"), trained, model="xgboost")
    here = predict(frame, warehouse=trained.root, model="xgboost")
    assert here.columns == [*PREDICTED.names, "problem"]
    assert here["row_number"].to_list() == [1, 2, 3, 4, 5]
    assert here.filter(pl.col("problem").is_null()).drop("problem").equals(pl.read_parquet(outcome.out))
    assert here["problem"].to_list() == [
        None,
        "energy: not a finite number: 'loud'; tempo: not a positive number: '-5'",
        None,
        "audio features: blank row",
        None,
    ]
    assert predict(tmp_path / "t.csv", warehouse=str(trained.root), model="xgboost").equals(here)
    with pytest.raises(
        UserError, match=r"^frame: 1 of 4 rows has bad values, and --strict allows none\. The first: row 2"
    ):
        predict(frame, warehouse=trained.root, model="xgboost", strict=True)


def test_remarks_on_tracks_are_warnings_of_the_callers_line(trained) -> None:
    frame = many(50).with_columns(energy=pl.col("energy").cast(pl.Float64) * 100).rename({"music_genre": "Genre"})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        predict(frame, warehouse=trained.root, model="xgboost", columns={"music_genre": "Genre"})
    assert any("energy" in str(one.message) and "percent" in str(one.message) for one in caught)
    assert {one.filename for one in caught} == {__file__}
    predict(frame, warehouse=trained.root, model="xgboost", units={"energy": "percent"})


@pytest.mark.parametrize(
    ("call", "options", "flow"),
    [
        (lambda: benchmark("nowhere.csv"), ["--source", "nowhere.csv"], "benchmark"),
        (lambda: benchmark("sample", columns={"foo": "bar"}), ["--columns", "foo=bar"], "benchmark"),
        (lambda: benchmark("sample", units={"key": "percent"}), ["--units", "key=percent"], "benchmark"),
        (
            lambda: benchmark("sample", models=["multitask"], feature_sets=["rhythm"]),
            ["--models", "multitask", "--feature-sets", "rhythm"],
            "benchmark",
        ),
        (lambda: query("drop table t", warehouse="nowhere"), ["drop table t", "--warehouse", "nowhere"], "query"),
    ],
    ids=["source", "columns", "units", "cells", "query"],
)
def test_a_refusal_is_the_message_of_the_command(call, options, flow, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MUSIC_WAREHOUSE", str(tmp_path / "warehouse"))
    with pytest.raises(UserError) as refused:
        call()
    assert str(refused.value) == refusal(*options, flow=flow)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: benchmark("sample", models=["xgb"]), "models: Unknown model 'xgb'. Known: better, "),
        (lambda: benchmark("sample", workers=0), "workers: Input should be greater than or equal to 1"),
        (lambda: predict("t.csv", min_features=13), "min_features: Input should be less than or equal to 12"),
        (lambda: leaderboard(5), "warehouse: Input should be"),
    ],
    ids=["models", "workers", "min_features", "warehouse"],
)
def test_an_argument_that_cannot_be_is_refused_by_name(call, reason) -> None:
    with pytest.raises(UserError) as refused:
        call()
    assert str(refused.value).startswith(reason)


@pytest.mark.slow
def test_a_run_in_which_every_cell_fails_is_published_and_raised(tmp_path) -> None:
    with pytest.raises(UserError, match=r"^every cell failed, the first with: ended after 0\.001 s"):
        benchmark("sample:400", warehouse=str(tmp_path), cell_timeout=0.001, **SMALL)
    assert query("select status from results.runs", warehouse=tmp_path).rows() == [("failed",)]
    assert set(query("select status from results.cells", warehouse=tmp_path)["status"]) == {"timed_out"}


@pytest.mark.slow
def test_a_run_is_published_though_no_champion_and_no_report_can_be_made(tmp_path, monkeypatch, capfd) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk\nfull")

    monkeypatch.setattr("tasks.prediction.champions.choose", fail)
    monkeypatch.setattr("flows.python.write_report", fail)
    ended = benchmark("sample:400", warehouse=str(tmp_path), models=["linear"], feature_sets=["all"])
    assert (ended.status, ended.report) == ("completed", None)
    said = capfd.readouterr().err.splitlines()
    assert {"No champion was chosen: disk full", "No report was written: disk full", GENERATED} <= set(said)
    assert said[-1] == "1 of 1 cells ok, 0 reused"
    assert query("select status from results.runs", warehouse=tmp_path).rows() == [("completed",)]


@pytest.mark.long
def test_ctrl_c_ends_the_training_and_the_same_call_goes_on_from_there(tmp_path) -> None:
    environment = scripted(clean_environment(MUSIC_WAREHOUSE=str(tmp_path / "w")), tmp_path / "began")
    code = (
        "from flows.python import benchmark\n"
        "benchmark('sample:400', models=['linear', 'sleeps'], feature_sets=['all'], workers=2)\n"
    )
    with subprocess.Popen(
        script(code, tmp_path, environment), cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        training = in_training(tmp_path / "began")
        home = Warehouse.at(tmp_path / "w")
        until(lambda: any((home.root / "cells").glob("*/result.parquet")))
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert "KeyboardInterrupt" in said
    until(lambda: not training.is_running(), 10)
    assert query("select status from results.runs", warehouse=home.root).rows() == [("interrupted",)]
    again = benchmark("sample:400", models=["linear"], feature_sets=["all"], warehouse=home.root, progress=False)
    assert [cell.reused for cell in again.cells] == [True]
