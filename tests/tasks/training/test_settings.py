"""Saved settings: what is written, what is read again, and what is refused in a line."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tasks.compute.processes import Processes
from tasks.errors import UnknownNameError, UserError
from tasks.features.build import build_features
from tasks.ingest.read import ingest
from tasks.models.registry import MODELS, spec_of
from tasks.prediction import champions
from tasks.prediction.batch import predict_rows
from tasks.results.publish import publish
from tasks.specs import Cell
from tasks.storage.warehouse import Warehouse
from tasks.training.cell_key import cell_key
from tasks.training.cell_process import train_job
from tasks.training.grid import plan_cells
from tasks.training.jobs import Job, make_jobs
from tasks.training.request import Request
from tasks.training.runs import finish_run, outcome_of, start_run
from tasks.training.settings import save, saved_models
from tasks.training.tuning import Best
from tasks.upkeep.cleanup import tidy
from tasks.upkeep.integrity import Fault, check
from tasks.upkeep.policy import Policy

GENRE = MODELS["genre/xgboost_tuned"]
FOUND = {"max_depth": 3, "n_estimators": 40, "learning_rate": 0.5}
FILE = "settings/genre/xgboost_tuned@mine.json"


def job(task: str = "genre", model: str = "xgboost_tuned") -> Job:
    cell = Cell(protocol="cold_start", task=task, model=model, feature_set="all", seed=42, budget="full")
    return Job(
        cell=cell, key="k", result="r", feature_version="v", staging_version="s", table="t", split_table="p",
        genres=("a", "b"), warehouse="", threads=1,
    )  # fmt: skip


def saved(home: Warehouse, name: str = "mine", found: dict[str, Any] = FOUND, of: Job | None = None) -> str:
    best = Best("accuracy", 0.47, 0.46, found, 12)
    return save(name, best, "genre-xgboost_tuned-cold_start-0", of or job(), home)


def test_a_file_says_what_was_found_and_how(warehouse) -> None:
    assert saved(warehouse) == FILE
    record = json.loads((warehouse.root / FILE).read_text())
    assert record["parameters"] == {**GENRE.parameters, **FOUND}
    assert {name: record[name] for name in list(record) if name not in {"parameters", "saved_at", "versions"}} == {
        "task": "genre",
        "model": "xgboost_tuned",
        "metric": "accuracy",
        "validation_value": 0.47,
        "validation_value_of_committed": 0.46,
        "trials": 12,
        "protocol": "cold_start",
        "search": "genre-xgboost_tuned-cold_start-0",
        "feature_version": "v",
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record["saved_at"])
    assert {"python", "numpy"} < record["versions"].keys()


def test_a_name_keeps_its_settings(warehouse) -> None:
    saved(warehouse)
    before = (warehouse.root / FILE).read_bytes()
    assert saved(warehouse) == FILE  # the same settings, once more
    with pytest.raises(UserError, match=rf"^{FILE}: other settings of xgboost_tuned are saved under this name"):
        saved(warehouse, found=FOUND | {"max_depth": 4})
    assert (warehouse.root / FILE).read_bytes() == before


def test_the_cells_of_saved_settings_stand_beside_the_committed_ones(warehouse) -> None:
    saved(warehouse)
    saved(warehouse, of=job("popularity"))
    saved(warehouse, name="other")
    request = Request.of("label_free", "full", ["xgboost_tuned", "xgboost_tuned@mine"], None, None, warehouse)
    cells = plan_cells(request.protocols, "full", request.models, request.feature_sets, request.seeds, request.saved)
    assert {(cell.task, cell.model) for cell in cells} == {
        (task, model) for task in ("genre", "popularity") for model in ("xgboost_tuned", "xgboost_tuned@mine")
    }
    [mine] = [cell for cell in cells if (cell.task, cell.model) == ("genre", "xgboost_tuned@mine")]
    spec = spec_of(mine)
    assert (spec.name, spec.parameters) == ("genre/xgboost_tuned@mine", {**GENRE.parameters, **FOUND})
    assert spec.parameters_for("smoke") == {**GENRE.parameters, **FOUND, "n_estimators": 20}
    assert (spec.build, spec.feature_sets, spec.group) == (GENRE.build, GENRE.feature_sets, GENRE.group)
    assert mine.title == "genre xgboost_tuned@mine on all (label_free, seed 42)"
    shutil.rmtree(warehouse.root / "settings")
    assert spec_of(mine).parameters == spec.parameters


def test_settings_that_are_equal_to_the_committed_are_another_cell(warehouse) -> None:
    """Results have the name, so that both stand in one run, each with its own stored cell."""
    saved(warehouse, found={})
    [spec] = saved_models(["xgboost_tuned@mine"], warehouse)
    assert spec.parameters == GENRE.parameters
    models = ["xgboost_tuned", "xgboost_tuned@mine"]
    keys = {cell_key(cell, "v") for cell in plan_cells(["label_free"], "full", models, ["all"], [42], [spec])}
    assert len(keys) == 3  # two of genre, one of popularity


def test_the_key_has_the_settings(warehouse) -> None:
    keys = set()
    for n, found in enumerate([{}, {"max_depth": 3}, {"max_depth": 4}]):
        shutil.rmtree(warehouse.root / "settings", ignore_errors=True)
        saved(warehouse, found=found)
        [spec] = saved_models(["xgboost_tuned@mine"], warehouse)
        [cell] = plan_cells(["label_free"], "full", [spec.model], ["all"], [42], [spec])
        keys.add(cell_key(cell, "v"))
        assert len(keys) == n + 1


def test_unknown_settings_are_told_with_the_known(warehouse) -> None:
    with pytest.raises(UserError, match=r"^No settings 'xgboost_tuned@mine' are saved in .*flows\.tune"):
        saved_models(["xgboost_tuned@mine"], warehouse)
    saved(warehouse)
    for file in ("notes.txt", "xgboost_tuned@UPPER.json", "forgotten_model@mine.json", "xgboost_tuned.json"):
        (warehouse.root / "settings" / "genre" / file).write_text("{}")
    with pytest.raises(UnknownNameError) as refused:
        saved_models(["xgboost_tuned@me"], warehouse)
    assert str(refused.value) == "Unknown settings 'xgboost_tuned@me'. Known: xgboost_tuned@mine."
    assert saved_models(["xgboost", "better"], warehouse) == []


def change(**parameters: object) -> Callable[[dict[str, Any]], object]:
    return lambda record: record["parameters"].update(parameters)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (
            change(depth=3),
            'has an unknown parameter "depth". genre/xgboost_tuned has colsample_bynode, learning_',
        ),
        (lambda record: record["parameters"].pop("max_depth"), 'has no parameter "max_depth". genre/xgboost_tuned has'),
        (change(max_depth="6"), "parameter 'max_depth' is \"6\". It must be of type int."),
        (change(max_depth=6.5), "parameter 'max_depth' is 6.5. It must be of type int."),
        (change(max_depth=True), "parameter 'max_depth' is true. It must be of type int."),
        (change(subsample=None), "parameter 'subsample' is null. It must be of type float."),
        (change(subsample=float("nan")), "is no file of settings in JSON (NaN is no number)"),
        (lambda record: record.update(model="extra_trees"), 'has settings of task "genre" and model "extra_trees". A '),
        (
            lambda record: record.update(task="popularity"),
            'has settings of task "popularity" and model "xgboost_tuned".',
        ),
        (lambda record: record.pop("task"), 'has settings of task null and model "xgboost_tuned".'),
        (lambda record: record.update(parameters=[1]), "is no file of settings: it has no `parameters` by name."),
        (lambda record: record.update(task=["x" * 500]), f'has settings of task ["{"x" * 58} and model'),
        (change(max_depth=7), "was changed after it was saved."),
    ],
)
def test_a_file_that_was_changed_is_refused_in_a_line(edit, reason, warehouse) -> None:
    saved(warehouse)
    record = json.loads((warehouse.root / FILE).read_text())
    edit(record)
    (warehouse.root / FILE).write_text(json.dumps(record))
    with pytest.raises(UserError) as refused:
        saved_models(["xgboost_tuned@mine"], warehouse)
    assert str(refused.value).startswith(f"{FILE}: {reason}")


@pytest.mark.parametrize(
    "content", [b"", b'{"task": "genre", ', b"\xff\xfe", b"[" * 100_000, b"PAR1", b'{"parameters": {"a": 1e999}}']
)
def test_a_damaged_file_is_refused_in_a_line(content, warehouse) -> None:
    saved(warehouse)
    (warehouse.root / FILE).write_bytes(content)
    for use in (lambda: saved_models(["xgboost_tuned@mine"], warehouse), lambda: saved(warehouse)):
        with pytest.raises(UserError, match=rf"^{FILE}: is no file of settings in JSON \(.*\)\. Remove it, and save"):
            use()


def test_settings_can_be_written_by_hand(warehouse) -> None:
    """With the three entries that are needed, and a whole number where one may have a fraction."""
    path = warehouse.root / "settings" / "genre" / "xgboost_tuned@by-hand.json"
    path.parent.mkdir(parents=True)
    parameters = {**GENRE.parameters, "subsample": 1}
    path.write_text(json.dumps({"task": "genre", "model": "xgboost_tuned", "parameters": parameters}))
    [spec] = saved_models(["xgboost_tuned@by-hand"], warehouse)
    assert spec.parameters["subsample"] == 1


def test_upkeep_keeps_settings_and_its_check_reads_them(warehouse) -> None:
    saved(warehouse)
    assert FILE not in tidy(Policy(keep_runs=1, grace_hours=0), 0, lambda: None, warehouse).going
    assert check(warehouse).faults == []
    file = warehouse.root / FILE
    file.write_text(file.read_text().replace("0.47", "0.99"))
    assert check(warehouse).faults == [Fault(FILE, "altered")]
    assert (warehouse.root / "damaged" / FILE).exists()
    assert saved(warehouse) == FILE  # made again by the same command
    assert check(warehouse).faults == []
    file.unlink()
    assert check(warehouse).faults == [Fault(FILE, "missing")]


@pytest.mark.slow
def test_a_model_of_saved_settings_predicts_after_the_file_is_gone(tmp_path) -> None:
    """Trained in a cell's process, on the leaderboard by its name, champion, and loaded from its stored cell alone."""
    home = Warehouse.at(tmp_path)
    saved(home, of=job("popularity"))
    snapshot = ingest("sample:600", {}, 0.05, home)
    tables = build_features(snapshot, "cold_start", 5, home)
    request = Request.of("cold_start", "smoke", ["xgboost_tuned", "xgboost_tuned@mine"], None, None, home)
    _, cells = request.cells(snapshot, tables)
    shutil.rmtree(tmp_path / "settings")
    run = start_run(snapshot, "smoke", home)
    with Processes(threads=1, timeout=300) as processes:
        outcomes = []
        for one in make_jobs(cells, tables, run.run_id, home, 1):
            ended = processes.run(train_job, one, home.temporary("log"))
            outcomes.append(outcome_of(one, ended.status, result=one.result, error=ended.error))
    finish_run(run, "completed", outcomes, home)
    assert {outcome.status for outcome in outcomes} == {"ok"}
    champions.choose(run.run_id, home, 1)
    publish(snapshot, tables, home)
    with duckdb.connect(str(home.database), read_only=True) as connection:
        board = connection.execute(
            "select model, params->>'max_depth' from results.leaderboard join results.cells using (model, task)"
            " where task = 'popularity' order by model"
        ).fetchall()
    assert board == [("xgboost_tuned", "6"), ("xgboost_tuned@mine", "3")]
    predicted, _ = predict_rows(str(sample_file(tmp_path)), home, "xgboost_tuned@mine", {}, False, {}, 6, 10**9)
    assert set(predicted["popularity_model"]) == {f"xgboost_tuned@mine@{run.run_id}"}
    named = champions.predictors(home, "xgboost_tuned@mine", 1)["popularity"]
    stored = champions._champion(champions._row(named))
    assert stored.candidate.spec.parameters == {**MODELS["popularity/xgboost_tuned"].parameters, **FOUND}


def sample_file(folder: Path) -> Path:
    [file] = (folder / "sample").glob("*.csv")
    return file
