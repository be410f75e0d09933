from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from tasks.compute.processes import Processes
from tasks.errors import ModelFileError, UnknownNameError
from tasks.models.estimators import vectorized_svc
from tasks.models.estimators.faster_mlp import FasterMLPClassifier
from tasks.models.files import load_model, save_model
from tasks.models.inference import predict
from tasks.models.registry import MODELS
from tasks.models.spec import Range
from tasks.specs import FEATURE_SETS, METRICS, Cell, FeatureSet, Registry
from tasks.storage.warehouse import Warehouse
from tasks.training import train
from tasks.training.cell_files import find_result
from tasks.training.cell_key import cell_key
from tasks.training.grid import plan_cells
from tasks.training.jobs import Job, make_jobs
from tests.helpers.amounts import mostly_long


def predicted_again(trained: tuple[Job, dict]) -> dict[str, np.ndarray]:
    """What a stored model predicts of the test rows."""
    job, result = trained
    spec = MODELS[f"{job.cell.task}/{job.cell.model}"]
    model = load_model(spec, result["model_path"], result["model_sha256"], Warehouse.at(job.warehouse), threads=1)
    return predict(model, spec, train.load(job).x["test"], len(job.genres)).values


NETS = {name for name, spec in MODELS.items() if "tensorflow" in spec.libraries}


@pytest.mark.parametrize("name", mostly_long(MODELS, *(MODELS.keys() - NETS)))
def test_every_model_trains_and_reports(name, sample_tables, shared_warehouse) -> None:
    spec = MODELS[name]
    cells = plan_cells(["published"], "smoke", [spec.model], ["all"], [42])
    cells = [cell for cell in cells if cell.task == spec.task]
    [job] = make_jobs(cells, sample_tables, "20260101T000000-test", shared_warehouse, 1)
    with Processes(threads=1, timeout=300) as processes:
        outcome = processes.run(train.train_cell, job, shared_warehouse.temporary("log"))
    assert outcome.error is None
    assert find_result(job.key, shared_warehouse) == job.result

    result = pl.read_parquet(shared_warehouse.cell(job.result) / "result.parquet").to_dicts()[0]
    tasks = {"genre", "popularity"} if spec.task == "multitask" else {spec.task}
    reported = {(row["task"], row["split"], row["slice"], row["metric"]) for row in result["metrics"]}
    assert reported == {
        (task, split, part, metric)
        for task in tasks
        for split in ("val", "test")
        for part in ("all", "imputed", "observed")
        for metric in (one.name for one in METRICS.values() if one.task == task)
        if not (spec.model == "svm" and METRICS[metric].needs_probabilities)
    }
    for row in result["metrics"]:
        if row["value"] is not None and row["n"] > 100 and row["metric"] != "ece":  # ece is biased upwards by noise
            assert row["ci_low"] <= row["value"] <= row["ci_high"], row
    replicates = pl.read_parquet(shared_warehouse.cell(job.result) / "replicates.parquet")
    assert {len(values) for values in replicates["replicates"]} == {1000}
    assert {row["feature_name"] for row in result["importance"]} == set(FEATURE_SETS["all"].columns)
    assert {row["method"] for row in result["importance"]} == {spec.importance}
    assert result["peak_rss_mb"] > 50
    assert result["n_train"] == 1400

    predictions = pl.read_parquet(shared_warehouse.cell(job.result) / "predictions.parquet")
    assert predictions.height == 600 * len(tasks)
    values = {(row["task"], row["split"], row["slice"], row["metric"]): row["value"] for row in result["metrics"]}
    test = predictions.filter(split="test")
    if "genre" in tasks:
        genre = test.filter(task="genre")
        assert values["genre", "test", "all", "accuracy"] == pytest.approx((genre["y_true"] == genre["y_pred"]).mean())
        assert values["genre", "test", "all", "accuracy"] > 0.15
        assert sum(row["n"] for row in result["confusion"] if row["split"] == "test") == 300
        hits = genre.filter(pl.col("true_genre") == pl.col("predicted_genre")).height
        diagonal = [
            r["n"] for r in result["confusion"] if r["split"] == "test" and r["true_genre"] == r["predicted_genre"]
        ]
        assert sum(diagonal) == hits
    weighed = [(member["task"], member["weight"]) for member in result["members"]]
    for task in tasks:
        total = sum(weight for of, weight in weighed if of == task)
        assert total == pytest.approx(float(spec.cross_fits))
    if result["model_path"]:
        with Processes(threads=1, timeout=300) as processes:
            outcome = processes.run(predicted_again, (job, result), shared_warehouse.temporary("log"))
        assert outcome.error is None
        for task in tasks:
            np.testing.assert_array_equal(test.filter(task=task)["y_pred"].to_numpy(), outcome.value[task])
    else:
        assert spec.model in {"random_forest", "extra_trees", "ensemble"}
    if "popularity" in tasks:
        popularity = test.filter(task="popularity")
        error = (popularity["y_true"] - popularity["y_pred"]).to_numpy()
        assert values["popularity", "test", "all", "rmse"] == pytest.approx(np.sqrt((error**2).mean()))
        assert values["popularity", "test", "all", "rmse"] < 40


@pytest.mark.slow
def test_two_genres_are_enough(warehouse) -> None:
    from tasks.features.build import build_features
    from tasks.ingest.read import ingest
    from tests.helpers.tracks import many

    many(120).write_csv(warehouse.root / "two.csv")
    tables = build_features(ingest(str(warehouse.root / "two.csv"), {}, 1.0, warehouse), "published", 20, warehouse)
    cells = plan_cells(["published"], "smoke", ["svm", "xgboost", "mlp", "knn"], ["rhythm"], [42])
    for job in make_jobs(cells, tables, "run", warehouse, 1):
        train.train_cell(job)


def arrays(n_classes: int, seed: int = 0, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = random.integers(n_classes, size=n)
    return random.standard_normal((n, 5)) + y[:, None] * 0.3, y


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("largest_pair", [vectorized_svc.LARGEST_PAIR, 10])
def test_the_svm_predicts_as_libsvm_does(n_classes, largest_pair, monkeypatch) -> None:
    monkeypatch.setattr(vectorized_svc, "LARGEST_PAIR", largest_pair)
    x, y = arrays(n_classes)
    ours = vectorized_svc.VectorizedSVC(C=2.0).fit(x, y)
    np.testing.assert_array_equal(ours.predict(x[:333]), SVC(C=2.0).fit(x, y).predict(x[:333]))


def test_the_mlp_is_scikit_learns_to_the_last_bit() -> None:
    x, y = arrays(4)
    settings = {"hidden_layer_sizes": (16, 8), "max_iter": 30, "random_state": 1}
    ours, theirs = FasterMLPClassifier(**settings).fit(x, y), MLPClassifier(**settings).fit(x, y)
    for a, b in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)
    assert ours.loss_ == pytest.approx(theirs.loss_)


def test_the_mlp_stops_where_scikit_learns_does() -> None:
    x, y = arrays(3, n=150)
    settings = {"hidden_layer_sizes": (8,), "max_iter": 500, "random_state": 1, "tol": 1e-2}
    ours, theirs = FasterMLPClassifier(**settings).fit(x, y), MLPClassifier(**settings).fit(x, y)
    assert ours.n_iter_ == theirs.n_iter_ < 500
    np.testing.assert_array_equal(ours.predict_proba(x), theirs.predict_proba(x))


def test_the_plan_starts_with_the_dearest_and_names_every_cell_once() -> None:
    cells = plan_cells(["published"], "full", [], [], [42])
    assert (cells[0].model, cells[0].task, cells[0].feature_set) == ("random_forest", "popularity", "all")
    n_sets = sum(not chosen.leaks for chosen in FEATURE_SETS.values())
    assert len(cells) == len(set(cells)) == 12 * n_sets + 1


def test_only_what_is_stochastic_is_repeated() -> None:
    cells = plan_cells(["published"], "full", ["knn", "mlp"], ["all"], [1, 2])
    assert [(cell.model, cell.seed) for cell in cells] == [("mlp", 1), ("mlp", 2), ("knn", 42)]


@pytest.mark.parametrize(("models", "sets"), [(["xgb"], []), ([], ["everything"])])
def test_unknown_names_are_refused_with_the_known_ones(models, sets) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown (model 'xgb'|feature set 'everything')\. Known: "):
        plan_cells(["published"], "full", models, sets, [42])


def test_a_registry_refuses_duplicates() -> None:
    spec = FeatureSet(name="x", table="tracks_std", columns=())
    with pytest.raises(ValueError, match="registered twice"):
        Registry("feature set", spec, spec)
    assert "y" not in Registry("feature set", spec)


@pytest.mark.parametrize("changed", [{"task": "genre"}, {"space": {"folds": Range(low=2, high=5)}}, {"is_probe": True}])
def test_a_model_that_cross_fits_is_used_only_where_that_is_right(changed) -> None:
    with pytest.raises(ValueError, match="ensemble: cross_fits needs task multitask, without space"):
        replace(MODELS["multitask/ensemble"], **changed)


def test_a_key_tells_apart_what_decides_the_result() -> None:
    cell = Cell(protocol="published", task="genre", model="mlp", feature_set="all", seed=42, budget="full")
    others = [
        Cell(protocol="published", task="genre", model="mlp", feature_set="all", seed=43, budget="full"),
        Cell(protocol="published", task="genre", model="mlp", feature_set="rhythm", seed=42, budget="full"),
        Cell(protocol="published", task="genre", model="mlp", feature_set="all", seed=42, budget="smoke"),
    ]
    keys = {cell_key(cell, "v1"), cell_key(cell, "v2"), *(cell_key(other, "v1") for other in others)}
    assert len(keys) == 5
    assert cell_key(cell, "v1") == cell_key(cell, "v1")


def test_a_genre_without_training_rows_keeps_the_other_genres_codes() -> None:
    random = np.random.default_rng(0)
    y = random.choice([0, 2, 3], 300)
    x = np.eye(4)[y] + random.normal(0, 0.1, (300, 4))
    spec = MODELS["genre/logistic_regression"]
    estimator = spec.build(spec.parameters, 42, 1)
    estimator.fit(x, y)
    predicted = predict(estimator, spec, x, 4)
    assert predicted.values["genre"].tolist() == estimator.predict(x).tolist()
    assert predicted.probabilities.shape == (300, 4)
    assert not predicted.probabilities[:, 1].any()


class Runs:
    """What a pickle can be: loading it runs a command."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch /tmp/ran",)


def test_a_model_is_loaded_only_as_its_cell_wrote_it(warehouse) -> None:
    spec = MODELS["popularity/linear"]
    folder = warehouse.cell("key-run")
    folder.mkdir(parents=True)
    x = np.eye(4)
    name, sha256 = save_model(spec.build(spec.parameters, 0, 1).fit(x, [1.0, 2.0, 3.0, 4.0]), folder)
    path = f"cells/key-run/{name}"
    assert load_model(spec, path, sha256, warehouse, 1).predict(x) == pytest.approx([1.0, 2.0, 3.0, 4.0])

    (warehouse.root / "elsewhere.skops").write_bytes((folder / name).read_bytes())
    for outside in ("elsewhere.skops", "cells/../elsewhere.skops", "/etc/passwd"):
        with pytest.raises(ModelFileError, match="from the warehouse's own cells only"):
            load_model(spec, outside, sha256, warehouse, 1)
    (folder / "link.skops").symlink_to(warehouse.root / "elsewhere.skops")
    with pytest.raises(ModelFileError, match="own cells only"):
        load_model(spec, "cells/key-run/link.skops", sha256, warehouse, 1)
    with pytest.raises(ModelFileError, match="missing"):
        load_model(spec, "cells/key-run/other.skops", sha256, warehouse, 1)
    with (folder / name).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelFileError, match="SHA-256 differs"):
        load_model(spec, path, sha256, warehouse, 1)


def test_a_model_file_cannot_bring_types_of_its_own(warehouse) -> None:
    folder = warehouse.cell("key-run")
    folder.mkdir(parents=True)
    spec = MODELS["popularity/linear"]
    model = spec.build(spec.parameters, 0, 1).fit(np.eye(2), [0.0, 1.0])
    model.surprise = Runs()
    name, sha256 = save_model(model, folder)
    with pytest.raises(ModelFileError, match=r"cannot be loaded \(Untrusted types found in the file: .*Runs"):
        load_model(spec, f"cells/key-run/{name}", sha256, warehouse, 1)
