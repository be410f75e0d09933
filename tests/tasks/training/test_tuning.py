from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from tasks.compute.processes import Outcome
from tasks.errors import UnknownNameError, UserError
from tasks.models.registry import MODELS
from tasks.specs import Cell
from tasks.training import tuning
from tasks.training.jobs import make_jobs
from tasks.training.tuning import TRIALS, open_search, tunable, tunable_names, validate
from tests.helpers.amounts import mostly_long
from tests.helpers.stored import trial_rows, try_until


@pytest.fixture
def job(sample_tables, shared_warehouse):
    cell = Cell(
        protocol="published", task="popularity", model="extra_trees", feature_set="all", seed=42, budget="smoke"
    )
    return make_jobs([cell], sample_tables, "tuning", shared_warehouse, 1)[0]


@pytest.mark.parametrize("name", tunable_names())
def test_the_committed_settings_are_in_their_space(name) -> None:
    for setting, values in MODELS[name].space.items():
        assert values.low <= MODELS[name].parameters[setting] <= values.high, setting
        assert not values.step or (MODELS[name].parameters[setting] - values.low) % values.step == 0, setting


def test_a_search_goes_on_where_it_was(job, warehouse) -> None:
    name, first = try_until(2, job, warehouse)
    again, then = try_until(4, job, warehouse)
    assert again == name
    assert (len(first), len(then)) == (2, 2)
    assert first[0] == MODELS["popularity/extra_trees"].parameters
    stored = trial_rows(warehouse)
    assert [row["number"] for row in stored] == [0, 1, 2, 3]
    assert [json.loads(row["params"]) for row in stored] == first + then
    assert len({row["params"] for row in stored}) == 4
    assert {(row["study"], row["state"], row["metric"], row["seconds"]) for row in stored} == {
        (name, "complete", "rmse", 0.1)
    }
    assert all(pq.read_schema(file).equals(TRIALS) for file in warehouse.files("tuning", "trials"))


def test_a_killed_trial_is_recorded_and_not_counted(job, warehouse) -> None:
    with open_search(job, warehouse) as search:
        search.ask()
    with open_search(job, warehouse) as search:
        assert search.n_finished == 0
        trial = search.ask()
        assert trial.parameters == MODELS["popularity/extra_trees"].parameters
        search.tell(trial, Outcome("failed", error="MemoryError"), 0.1)
        assert search.n_finished == 1
        with pytest.raises(UserError, match=r"No trial of .* succeeded; the last failed with: MemoryError"):
            search.best()
    assert [(row["state"], row["value"]) for row in trial_rows(warehouse)] == [("killed", None), ("failed", None)]


def test_the_best_is_told_beside_the_committed(job, warehouse) -> None:
    try_until(5, job, warehouse)
    with open_search(job, warehouse) as search:
        best = search.best()
    values = [row["value"] for row in trial_rows(warehouse)]
    assert (best.value, best.committed, best.n_finished) == (min(values), values[0], 5)
    assert best.parameters["max_features"] == best.value


@pytest.mark.parametrize("name", mostly_long(tunable_names(), *(set(tunable_names()) - {"multitask/multitask_tuned"})))
def test_a_trial_is_worth_its_validation_metric(name, sample_tables, shared_warehouse) -> None:
    spec = MODELS[name]
    cell = Cell(protocol="published", task=spec.task, model=spec.model, feature_set="all", seed=42, budget="smoke")
    [job] = make_jobs([cell], sample_tables, "tuning", shared_warehouse, 1)
    trial = tuning.Trial(number=0, job=job, parameters=spec.parameters_for("smoke"))
    low, high = {"accuracy": (0.15, 1.0), "rmse": (5.0, 40.0), "accuracy_plus_r2": (0.1, 2.0)}[
        tuning.JUDGED_BY[spec.task]
    ]
    assert low < validate(trial) < high


def test_a_model_without_a_space_is_refused() -> None:
    with pytest.raises(
        UnknownNameError, match=r"Unknown model to tune 'genre/svm'\. Known: genre/catboost, genre/extra_trees"
    ):
        tunable("genre", "svm")
