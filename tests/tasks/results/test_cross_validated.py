"""What a cross-validation publishes: each fold apart, the figures over all rows, and which model is better."""

from __future__ import annotations

import re
import shutil

import duckdb
import numpy as np
import pytest
from sklearn import metrics

from tasks.results import run_queries
from tasks.specs import STUDY_SEED
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse
from tasks.upkeep.cleanup import tidy
from tasks.upkeep.policy import Policy
from tests.helpers.commands import ROOT, query
from tests.helpers.runs import make_run

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras on NumPy 2
FOLDS = 3
MODELS = ["linear", "logistic_regression", "multitask", "xgboost"]
CELLS = 5  # xgboost is trained for each task


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Warehouse:
    home = Warehouse.at(tmp_path_factory.mktemp("folds"))
    make_run(home, "sample:2000", MODELS, protocols=["published", "cold_start"], folds=FOLDS, chooses=True)
    return home


@pytest.mark.slow
class TestPublished:
    def test_the_tables_of_one_split_are_as_without_folds(self, home) -> None:
        grain = "run_id, protocol, task, model, feature_set, seed"
        assert query(home, f"select count(*), count(distinct ({grain})) from results.cells") == [(12, 12)]
        grain += ", split, slice, metric"
        assert query(home, f"select count(*) - count(distinct ({grain})) from results.metrics") == [(0,)]
        assert query(home, "select distinct protocol, count(*) from results.leaderboard group by all order by all") == [
            ("cold_start", 6),
            ("published", 6),
        ]
        assert query(home, "select task, folds from results.champions order by all") == [
            ("genre", FOLDS),
            ("popularity", FOLDS),
        ]

    def test_each_fold_has_its_row_and_its_own_test_rows(self, home) -> None:
        cells = query(
            home,
            """
            select fold, folds, count(*), bool_and(status = 'ok'), bool_and(fit_seconds > 0), list(distinct protocol)
            from results.fold_cells group by all order by fold
            """,
        )
        assert cells == [(fold, FOLDS, CELLS + 1, True, True, ["cold_start"]) for fold in (1, 2, 3)]
        tested = query(
            home,
            """
            select distinct count(*), count(distinct track_id),
                bool_and(part // 2 + 1 = fold)
            from results.fold_predictions inner join features.fold_assignment using (protocol, folds, track_id)
            group by task, model
            """,
        )
        assert tested == [(2000, 2000, True)]
        [(shared,)] = query(
            home,
            """
            select count(*) from (
                select artist_id from features.track_artists
                inner join results.fold_predictions using (track_id)
                group by artist_id having count(distinct fold) > 1
            )
            """,
        )
        assert shared == 0

    @pytest.mark.parametrize("model", ["logistic_regression", "multitask", "xgboost"])
    def test_figures_of_genre_are_those_of_all_rows_together(self, model, home) -> None:
        y_true, y_pred = predictions(home, "genre", model)
        figures = cross_validated(home, "genre", model)
        assert figures["accuracy"] == pytest.approx(metrics.accuracy_score(y_true, y_pred))
        for name, score in (
            ("f1_macro", metrics.f1_score),
            ("precision_macro", metrics.precision_score),
            ("recall_macro", metrics.recall_score),
        ):
            assert figures[name] == pytest.approx(score(y_true, y_pred, average="macro", zero_division=0)), name

    @pytest.mark.parametrize("model", ["linear", "multitask", "xgboost"])
    def test_figures_of_popularity_are_those_of_all_rows_together(self, model, home) -> None:
        y_true, y_pred = predictions(home, "popularity", model)
        figures = cross_validated(home, "popularity", model)
        assert figures["rmse"] == pytest.approx(metrics.root_mean_squared_error(y_true, y_pred))
        assert figures["mae"] == pytest.approx(metrics.mean_absolute_error(y_true, y_pred))
        assert figures["r2"] == pytest.approx(metrics.r2_score(y_true, y_pred), abs=0.01)

    def test_intervals_and_the_spread_over_folds_hold_the_figure(self, home) -> None:
        rows = query(
            home,
            """
            select metric, value, ci_low, ci_high, fold_low, fold_high, n, folds, seeds, is_current
            from results.cross_validated where metric in ('accuracy', 'log_loss', 'rmse', 'mae', 'f1_macro')
            """,
        )
        assert len(rows) == 3 * 3 + 3 * 2
        for metric, value, low, high, fold_low, fold_high, n, folds, seeds, is_current in rows:
            assert low < value < high
            assert fold_low <= value <= fold_high or metric == "f1_macro"
            assert (n, folds, seeds, is_current) == (2000, FOLDS, 1, True)

    def test_models_are_compared_over_all_rows(self, home) -> None:
        pairs = query(
            home,
            """
            select model_a, model_b, difference, ci_low <= difference and difference <= ci_high, p_holm >= p_value,
                better
            from results.fold_comparisons where metric = 'accuracy' order by all
            """,
        )
        assert [pair[:2] for pair in pairs] == [
            ("logistic_regression", "multitask"),
            ("logistic_regression", "xgboost"),
            ("multitask", "xgboost"),
        ]
        by_model = {model: cross_validated(home, "genre", model)["accuracy"] for model in MODELS[1:]}
        for a, b, difference, holds, is_corrected, better in pairs:
            assert difference == pytest.approx(by_model[a] - by_model[b])
            assert holds
            assert is_corrected
            assert better in {None, a if difference > 0 else b}


def predictions(home: Warehouse, task: str, model: str) -> np.ndarray:
    sql = f"select y_true, y_pred from results.fold_predictions where task = '{task}' and model = '{model}'"
    return np.array(query(home, sql)).T


def cross_validated(home: Warehouse, task: str, model: str) -> dict[str, float]:
    sql = f"select metric, value from results.cross_validated where task = '{task}' and model = '{model}'"
    return dict(query(home, sql))


@pytest.mark.slow
def test_folds_that_are_stored_are_not_trained_again_and_one_that_failed_leaves_no_figure(tmp_path) -> None:
    home = Warehouse.at(tmp_path)
    options = {"protocols": ["label_free"], "folds": 2}
    make_run(home, "sample:400", ["linear", "logistic_regression"], errors={"linear 2": "no memory"}, **options)
    assert query(home, "select distinct model from results.cross_validated") == [("logistic_regression",)]
    failed = "select model, fold, status, error from results.fold_cells where status <> 'ok'"
    assert query(home, failed) == [("linear", 2, "failed", "no memory")]
    make_run(home, "sample:400", ["linear", "logistic_regression"], **options)
    newest = "run_id = (select max(run_id) from results.runs)"
    trained = f"select model, fold from results.fold_cells where {newest} and not reused"
    assert query(home, trained) == [("linear", 2)]
    assert len(query(home, "select distinct model from results.cross_validated")) == 2


@pytest.mark.long
def test_a_copied_file_is_another_catalogue_whose_folds_are_not_added_to_those_of_the_first(tmp_path) -> None:
    of_sample = Warehouse.at(tmp_path / "w")
    make_run(of_sample, "sample:400", ["linear"], protocols=["label_free"])
    [sample] = (of_sample.root / "sample").glob("*.csv")
    own = Warehouse.at(tmp_path / "own")
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_bytes(sample.read_bytes())
        make_run(own, str(tmp_path / name), ["linear"], protocols=["label_free"], folds=2)
    rows = query(own, "select n, folds, seeds, fold_sd from results.cross_validated where metric = 'rmse'")
    assert rows == [rows[0]] * 2
    assert rows[0][:3] == (400, 2, 1)


@pytest.mark.long
def test_a_later_run_without_folds_leaves_the_cross_validation(tmp_path) -> None:
    home = Warehouse.at(tmp_path)
    of_folds = make_run(home, "sample:400", ["linear", "xgboost"], protocols=["label_free"], folds=2, chooses=True)
    figures = "select count(*) from results.cross_validated"
    [(before,)] = query(home, figures)
    later = make_run(home, "sample:400", ["linear", "xgboost"], protocols=["label_free"], chooses=True)
    tidy(Policy(keep_runs=1, grace_hours=0), 0.0, lambda: None, home)
    assert query(home, "select run_id from results.runs order by all") == [(of_folds,), (later,)]
    assert query(home, figures) == [(before,)]
    assert run_ids_with_folds(home) == [of_folds]


def run_ids_with_folds(home: Warehouse) -> list[str]:
    with duckdb.connect(str(home.database), read_only=True) as connection:
        ids = [run_id for (run_id,) in connection.execute("select run_id from results.runs order by all").fetchall()]
        return [at for at in ids if run_queries.cross_validated(connection, at, "label_free", "popularity")]


def test_a_publication_without_folds_has_their_tables(trained) -> None:
    for name in ("results.fold_cells", "results.fold_metrics", "results.fold_predictions", "results.cross_validated"):
        assert query(trained, f"select count(*) from {name}") == [(0,)], name
    assert query(trained, "select count(*) from features.fold_assignment") == [(0,)]


QUESTIONS = re.findall(r"```sql\n(.*?)```", (ROOT / "docs/results.md").read_text(encoding="utf-8"), re.DOTALL)
RANKS = next(question for question in QUESTIONS if "fold_seed" in question)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Warehouse, dict[int, str]]:
    """Two divisions of the same tracks in one warehouse, the study's published last: the run of each seed."""
    home = Warehouse.at(tmp_path_factory.mktemp("seeds"))
    asked = {"source": "sample:400", "models": ["linear", "lasso"], "protocols": ["cold_start"], "folds": 2}
    return home, {seed: make_run(home, **asked, fold_seed=seed, chooses=True) for seed in (7, STUDY_SEED)}


@pytest.mark.slow
class TestSeeds:
    def test_each_has_its_own_figures_and_pairs(self, runs) -> None:
        home, by_seed = runs
        figures = query(
            home, "select model, fold_seed, folds, n, seeds, run_id, value from results.cross_validated "
            "where metric = 'rmse' order by model, fold_seed"
        )  # fmt: skip
        assert [row[:-1] for row in figures] == [
            (model, seed, 2, 400, 1, by_seed[seed]) for model in ("lasso", "linear") for seed in (7, STUDY_SEED)
        ]
        values = {row[:2]: row[-1] for row in figures}
        assert values["linear", 7] != values["linear", STUDY_SEED]
        pairs = query(
            home, "select fold_seed, model_a, model_b, value_a, value_b, p_value = p_holm "
            "from results.fold_comparisons where metric = 'rmse' order by all"
        )  # fmt: skip
        assert pairs == [
            (seed, "lasso", "linear", values["lasso", seed], values["linear", seed], True) for seed in (7, STUDY_SEED)
        ]
        assert query(home, "select distinct is_newest, count(*) from results.cross_validations group by all") == [
            (True, 2 * query(home, "select count(distinct (model, metric)) from results.cross_validations")[0][0])
        ]

    def test_predictions_are_of_the_parts_of_their_seed(self, runs) -> None:
        home, _ = runs
        shown = "select distinct folds, fold_seed from {}"
        assert query(home, shown.format("features.fold_assignment")) == [(2, STUDY_SEED)]
        assert query(home, shown.format("features.fold_statistics")) == [(2, STUDY_SEED)]
        of_parts = query(
            home,
            """
            select predictions.fold_seed, count(*), avg(cast(part // 2 + 1 = fold as int)) = 1
            from results.fold_predictions as predictions
            inner join features.fold_assignment as parts using (protocol, folds, track_id)
            group by all order by all
            """,
        )
        assert of_parts == [(7, 800, False), (STUDY_SEED, 800, True)]

    def test_a_run_shows_the_figures_and_pairs_of_its_own_seed(self, runs) -> None:
        home, by_seed = runs
        with duckdb.connect(str(home.database), read_only=True) as connection:
            for seed, run_id in by_seed.items():
                board = run_queries.cross_validated(connection, run_id, "cold_start", "popularity")
                leads = run_queries.rows(connection, duck.render("report/fold_leads"), run_id=run_id)
                assert {row["fold_seed"] for row in board} == {seed}
                assert len(leads) == 1
                rmse = {row["model"]: row["rmse"] for row in board}
                assert [(row["value_a"], row["value_b"]) for row in leads] == [(rmse["lasso"], rmse["linear"])]
                named = "2 folds" if seed == STUDY_SEED else "2 folds of seed 7"
                assert run_queries.in_folds(board[0]) == named

    def test_the_ranks_of_each_seed_are_compared_by_a_query(self, runs) -> None:
        home, _ = runs
        rows = query(home, RANKS.replace("budget = 'full'", "budget = 'smoke'").replace("folds = 5", "folds = 2"))
        figures = query(home, "select model, fold_seed, value from results.cross_validated where metric = 'rmse'")
        values = {(model, seed): value for model, seed, value in figures}
        assert {model for _, model, *_ in rows} == {"lasso", "linear"}
        for task, model, seeds, figures, ranks in rows:
            other = "linear" if model == "lasso" else "lasso"
            assert (task, seeds) == ("popularity", [7, STUDY_SEED])
            assert figures == [pytest.approx(values[model, seed], abs=1e-4) for seed in seeds]
            assert ranks == [1 + (values[model, seed] > values[other, seed]) for seed in seeds]

    def test_upkeep_keeps_both_and_neither_is_trained_again(self, runs, tmp_path) -> None:
        home, by_seed = runs
        own = Warehouse.at(shutil.copytree(home.root, tmp_path / "own"))
        tidy(Policy(keep_runs=1, grace_hours=0), 0.0, lambda: None, own)
        assert {run_id for (run_id,) in query(own, "select run_id from results.runs")} == set(by_seed.values())
        for seed in by_seed:
            again = make_run(own, "sample:400", ["linear", "lasso"], protocols=["cold_start"], folds=2, fold_seed=seed)
            assert query(own, f"select bool_and(reused) from results.fold_cells where run_id = '{again}'") == [(True,)]
            assert query(own, "select count(*), count(distinct fold_seed) from results.cross_validated") == [
                (2 * len(query(own, "select distinct model, metric from results.cross_validated")), 2)
            ]
