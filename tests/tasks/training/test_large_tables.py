"""Tables too large for memory: here any, by lower thresholds."""

from __future__ import annotations

import resource
from dataclasses import replace

import duckdb
import numpy as np
import polars as pl
import pytest

from tasks.compute.processes import Processes
from tasks.features.build import build_features
from tasks.ingest.read import ingest
from tasks.models import rows
from tasks.models.inference import Predicted
from tasks.models.linear import fit_least_squares
from tasks.models.registry import MODELS, spec_of
from tasks.models.rows import StoredRows
from tasks.reporting import report, terminal
from tasks.specs import Cell, Folds
from tasks.storage.warehouse import Warehouse
from tasks.training import large_tables, train
from tasks.training.cell_files import sample_of
from tasks.training.grid import with_folds
from tasks.training.jobs import Job, key_of, make_jobs
from tests.helpers.runs import make_run

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras on NumPy 2
FEATURES = ("a", "b", "c", "d")


@pytest.fixture
def all_is_large(monkeypatch) -> None:
    """Every table is large, and 1,400 training rows are six chunks, the last one short."""
    monkeypatch.setattr(large_tables, "LARGE_ROWS", 0)
    monkeypatch.setattr(rows, "CHUNK_ROWS", 256)
    monkeypatch.setattr(large_tables, "CHUNK_ROWS", 256)
    monkeypatch.setattr(large_tables, "SUBSAMPLE_ROWS", 200)


@pytest.fixture
def job_of(sample_tables, shared_warehouse):
    def make(name: str, budget: str = "brief") -> Job:
        task, model = name.split("/")
        cell = Cell(protocol="published", task=task, model=model, feature_set="all", seed=42, budget=budget)
        [job] = make_jobs([cell], sample_tables, "run", shared_warehouse, 1)
        return job

    return make


def fitted(job: Job) -> Predicted:
    """What a cell's model predicts of the test rows."""
    spec = spec_of(job.cell)
    with train.opened(job) as data:
        model = spec.build(spec.parameters_for(job.cell.budget), 42, 1)
        train.fit(model, spec, data)
        return train.predict_all(model, spec, data.x["test"], len(job.genres))


def test_every_model_streams_or_says_why_it_does_not() -> None:
    for spec in MODELS.values():
        assert (spec.fit_out_of_core is None) == bool(spec.needs_memory), spec.name


def test_stored_rows_are_those_in_memory_in_the_same_order(all_is_large, job_of, shared_warehouse) -> None:
    job = job_of("popularity/linear")
    whole = train.load(job)
    with train.opened(job) as data:
        assert isinstance(data.x["train"], StoredRows)
        assert data.features == whole.features
        for split in ("train", "val", "test"):
            np.testing.assert_array_equal(data.x[split][:], whole.x[split])
            for task in ("genre", "popularity"):
                np.testing.assert_array_equal(data.y[task][split][:], whole.y[task][split])
        np.testing.assert_array_equal(data.x["train"][300:301], whole.x["train"][300:301])
        for split in ("val", "test"):
            for name in ("track_id", "is_imputed", "units"):
                np.testing.assert_array_equal(getattr(data, name)[split], getattr(whole, name)[split])
        folder = data.x["train"].file.parent
        assert folder.is_relative_to(shared_warehouse.root / "tmp")
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "popularity/linear",
        "popularity/ridge",
        "popularity/lasso",
        "popularity/xgboost",  # its sketches of the quantiles are fed row by row either way: the same bins and trees
        "genre/xgboost",
        "genre/logistic_regression",
    ],
)
def test_fitted_from_disk_as_from_memory(name, job_of, request) -> None:
    job = job_of(name)
    expected = fitted(job)
    request.getfixturevalue("all_is_large")
    found = fitted(job)
    if expected.probabilities is None:
        np.testing.assert_allclose(found.values["popularity"], expected.values["popularity"], rtol=1e-9)
    else:
        np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=1e-9)


def test_of_two_genres_as_from_memory(all_is_large, tmp_path) -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((1000, 4))
    y = 3 * (x[:, 0] + random.standard_normal(1000) > 0).astype(np.int64)  # codes 0 and 3
    stored = on_disk(tmp_path, x, y)
    for name, tolerance in (("genre/logistic_regression", 1e-3), ("genre/mlp", 0.2)):
        spec = MODELS[name]
        expected, found = (spec.build(spec.parameters_for("brief"), 1, 1) for _ in range(2))
        expected.fit(x, y)
        spec.fit_out_of_core(found, *stored)
        assert found.classes_.tolist() == [0, 3]
        np.testing.assert_allclose(found.predict_proba(x), expected.predict_proba(x), atol=tolerance)


def on_disk(folder, x, y) -> tuple[dict[str, StoredRows], dict[str, StoredRows]]:
    file = folder / "rows.parquet"
    pl.DataFrame(x, schema=list(FEATURES)).with_columns(y=y).write_parquet(file, row_group_size=16_384)
    return {"train": StoredRows(file, FEATURES, "float64", len(x))}, {"train": StoredRows(file, "y", "float64", len(y))}


@pytest.mark.slow
def test_mini_batches_from_disk_learn_as_from_memory_and_the_same_way_twice(job_of, request) -> None:
    job = job_of("genre/mlp")
    truth = train.load(job).y["genre"]["test"]
    expected = (fitted(job).values["genre"] == truth).mean()
    request.getfixturevalue("all_is_large")
    found = [fitted(job) for _ in range(2)]
    np.testing.assert_array_equal(found[0].probabilities, found[1].probabilities)
    assert (found[0].values["genre"] == truth).mean() == pytest.approx(expected, abs=0.05)


@pytest.mark.long
def test_a_net_learns_from_disk(all_is_large, job_of) -> None:
    job = job_of("multitask/multitask_tuned")
    truth = train.load(job).y
    found = fitted(job)
    assert (found.values["genre"] == truth["genre"]["test"]).mean() > 0.25
    assert np.corrcoef(found.values["popularity"], truth["popularity"]["test"])[0, 1] > 0.3


def test_a_sample_is_of_each_genre_its_share_and_the_same_however_many_more_are_taken(
    all_is_large, job_of, monkeypatch
) -> None:
    job = job_of("genre/knn")
    whole = train.load(job)
    genre = whole.y["genre"]["train"]
    taken = []
    for n in (100, 200):
        monkeypatch.setattr(large_tables, "SUBSAMPLE_ROWS", n)
        with train.opened(job) as data:
            assert data.sampled_from == 1400
            assert isinstance(data.x["train"], np.ndarray)
            np.testing.assert_array_equal(data.x["train"], whole.x["train"][train.stratified(genre, n)])
            counts = np.bincount(data.y["genre"]["train"])
            assert np.abs(counts - n * np.bincount(genre) / 1400).max() <= 1
            taken.append({tuple(row) for row in data.x["train"]})
    assert taken[0] < taken[1]


def test_a_learning_curves_rows_are_those_in_memory(all_is_large, job_of) -> None:
    job = job_of("popularity/linear")
    job = replace(job, cell=replace(job.cell, train_rows=600))
    with train.opened(job) as data:
        np.testing.assert_array_equal(data.x["train"][:], train.load(job).x["train"])
        assert data.sampled_from is None


def test_the_rows_a_budget_allows_are_kept_to(all_is_large, job_of, monkeypatch) -> None:
    monkeypatch.setattr(large_tables, "BUDGETS", {"smoke": replace(large_tables.BUDGETS["smoke"], max_train_rows=700)})
    whole = train.load(job_of("popularity/linear"))
    with train.opened(job_of("popularity/linear", "smoke")) as data:
        np.testing.assert_array_equal(data.x["train"][:], whole.x["train"][:700])
        assert data.sampled_from is None
    with train.opened(job_of("genre/svm", "smoke")) as data:
        assert (len(data.x["train"]), data.sampled_from) == (200, 700)


@pytest.mark.long
def test_a_sample_is_recorded_and_told(all_is_large, warehouse, capsys) -> None:
    run_id = make_run(warehouse, "sample:2000", ["linear", "knn", "gradient_boosting", "xgboost"])
    with duckdb.connect(str(warehouse.database), read_only=True) as connection:
        found = connection.sql("select model, n_train, sampled_from, sample_reason from results.leaderboard order by 1")
        assert found.fetchall() == [
            ("gradient_boosting", 200, 1400, MODELS["popularity/gradient_boosting"].needs_memory),
            ("knn", 200, 1400, MODELS["genre/knn"].needs_memory),
            ("linear", 1400, None, None),
            ("xgboost", 1400, None, None),
            ("xgboost", 1400, None, None),
        ]
        counts = connection.sql("select task, model, count(distinct track_id) from results.predictions group by all")
        assert {row[2] for row in counts.fetchall()} == {600}
        [result] = connection.sql("select result from results.cells where model = 'knn'").fetchall()
        [accuracy] = connection.sql(
            "select accuracy from results.scores where model = 'xgboost' and task = 'genre'"
        ).fetchall()
        assert accuracy[0] > 0.15
    assert "sample, 200 of 1,400 rows, because it keeps" in str(sample_of(result[0], warehouse))
    terminal.print_run(run_id, warehouse)
    assert capsys.readouterr().out.count("200 of 1,400 rows") == 2
    report.write_report(run_id, warehouse)
    page = warehouse.report(run_id).read_text()
    assert "knn (sample)" in page
    assert "linear (sample)" not in page
    assert "gradient_boosting was trained on a stratified sample, 200 of 1,400 rows: scikit-learn grows trees" in page


def peak_of(stored: tuple[dict[str, StoredRows], dict[str, StoredRows]]) -> float:
    """Of a process that fits least squares to rows on disk, MiB."""
    rows.CHUNK_ROWS = 50_000
    fit_least_squares(MODELS["popularity/linear"].build({}, 0, 1), *stored)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(warehouse, tmp_path) -> None:
    """2,000,000 rows more are 76 MiB in memory."""
    random = np.random.default_rng(0)
    peaks = []
    with Processes(threads=1, timeout=300) as processes:
        for n in (200_000, 2_200_000):
            (tmp_path / str(n)).mkdir()
            stored = on_disk(tmp_path / str(n), random.standard_normal((n, 4)), random.standard_normal(n))
            peaks.append(processes.run(peak_of, stored, warehouse.temporary("log")).value)
    assert peaks[1] - peaks[0] < 40


@pytest.mark.parametrize("name", ["popularity/linear", "genre/xgboost", "multitask/ensemble", "multitask/multitask"])
def test_rows_of_a_fold_are_the_same_in_memory_and_on_disk(name, tmp_path, monkeypatch) -> None:
    home = Warehouse.at(tmp_path)
    tables = build_features(ingest("sample:400", {}, 0.05, home), "cold_start", 20, home, folds=Folds(2))
    task, model = name.split("/")
    cell = Cell(protocol="cold_start", task=task, model=model, feature_set="all", seed=42, budget="brief")
    one, *folds = make_jobs(with_folds([cell], Folds(2)), tables, "run", home, 1)
    assert len({job.key for job in (one, *folds)}) == 3
    assert [key_of(job.cell, job.feature_version) for job in (one, *folds)] == [one.key, *(job.key for job in folds)]
    read = [train.load(job) for job in folds]
    monkeypatch.setattr(large_tables, "LARGE_ROWS", 0)
    for job, in_memory in zip(folds, read, strict=True):
        with train.opened(job) as on_disk:
            assert isinstance(on_disk.x["test"], StoredRows)
            for split in ("train", "val", "test"):
                assert np.array_equal(on_disk.x[split][:], in_memory.x[split])
                assert np.array_equal(on_disk.y["genre"][split][:], in_memory.y["genre"][split])
            for split, units in on_disk.units.items():
                assert np.array_equal(units, in_memory.units[split])
            assert ("train" in on_disk.units) == MODELS[name].cross_fits
            assert np.array_equal(on_disk.track_id["test"], in_memory.track_id["test"])
    tested = [set(data.track_id["test"]) for data in read]
    assert not tested[0] & tested[1]
    assert len(tested[0] | tested[1]) == 400
