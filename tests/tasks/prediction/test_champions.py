from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime

import duckdb
import pytest

from tasks.errors import UserError
from tasks.ingest.read import ingest
from tasks.prediction import champions
from tasks.prediction.candidates import Candidate, candidates, lineage, out_of_fold, predictors_named
from tasks.prediction.champions import best_in, best_of, choose, current, decide, history, predictors, with_folds
from tasks.storage.warehouse import Warehouse
from tasks.training.runs import finish_run, start_run
from tasks.upkeep.cleanup import tidy
from tasks.upkeep.policy import Policy
from tests.helpers.stored import DRAWS, candidate, cross_validated


def rule(*contenders: Candidate, warehouse: Warehouse) -> str:
    return best_of(contenders, lambda one: champions.validation_replicates(one, warehouse)).result


def test_the_best_is_chosen_if_nobody_is_equal_to_it(warehouse) -> None:
    dear = candidate(warehouse, "dear", 0.48, seconds=9, own=0.002 * DRAWS[1])
    cheap = candidate(warehouse, "cheap", 0.45, seconds=1)
    assert rule(cheap, dear, warehouse=warehouse) == "dear"


def test_of_equals_the_fastest_is_chosen(warehouse) -> None:
    """Equal: within one standard error of the paired difference, 0.002 here, not of either figure (0.02)."""
    dear = candidate(warehouse, "dear", 0.48, seconds=9, own=0.002 * DRAWS[1])
    equal = candidate(warehouse, "equal", 0.479, seconds=3)
    worse = candidate(warehouse, "worse", 0.477, seconds=1)
    assert rule(dear, equal, worse, warehouse=warehouse) == "equal"


def test_seconds_that_are_about_the_same_do_not_choose(warehouse) -> None:
    best = candidate(warehouse, "best", 0.48, seconds=0.012, own=0.002 * DRAWS[1])
    equal = candidate(warehouse, "equal", 0.479, seconds=0.002)
    assert rule(equal, best, warehouse=warehouse) == "best"
    slow = replace(best, predict_seconds=0.060)
    assert rule(equal, slow, warehouse=warehouse) == "equal"


def test_lower_is_better_where_the_metric_is_an_error(warehouse) -> None:
    high, low = (
        replace(candidate(warehouse, name, 0.0), task="popularity", metric="rmse", value=value)
        for name, value in (("high", 13.0), ("low", 12.0))
    )
    assert best_of([high, low], lambda one: -one.value + 0.01 * DRAWS[len(one.result) - 3]).result == "low"


def test_cross_validations_choose_if_all_have_one(warehouse) -> None:
    lucky = candidate(warehouse, "lucky", 0.48, seconds=9)
    good = candidate(warehouse, "good", 0.45, seconds=9, own=0.002 * DRAWS[1])
    assert best_in([good, lucky], warehouse).result == "lucky"
    of_lucky = cross_validated(warehouse, lucky, 0.44, 0.46)
    of_good = cross_validated(warehouse, good, 0.46, 0.48, own=0.002 * DRAWS[1])
    assert out_of_fold(of_good, warehouse)[0] == pytest.approx(0.47)
    assert best_in([of_good, of_lucky], warehouse).result == "good"
    assert best_in([of_good, lucky], warehouse).result == "lucky"
    of_three = cross_validated(warehouse, lucky, 0.44, 0.46, 0.45)
    assert best_in([of_good, of_three], warehouse).result == "lucky"
    assert best_in([of_good, replace(of_lucky, fold_seed=7)], warehouse).result == "lucky"
    assert best_in([replace(one, fold_seed=7) for one in (of_good, of_lucky)], warehouse).result == "good"


@pytest.mark.parametrize(("values", "takes_over"), [((0.50, 0.50), True), ((0.481, 0.481), False)])
def test_a_challenger_is_judged_by_the_folds_if_both_have_them(values, takes_over, warehouse) -> None:
    standing = cross_validated(warehouse, candidate(warehouse, "standing", 0.48), 0.48, 0.48)
    challenger = candidate(warehouse, "challenger", 0.40, own=0.002 * DRAWS[1])
    decision = decide(cross_validated(warehouse, challenger, *values, own=0.002 * DRAWS[1]), standing, None, warehouse)
    assert decision.takes_over is takes_over
    assert f"out-of-fold accuracy {values[0]:.4f} against 0.4800" in decision.reason
    by_another_seed = cross_validated(warehouse, candidate(warehouse, "again", 0.40), *values, fold_seed=7)
    assert "validation accuracy 0.4000 against 0.4800" in decide(by_another_seed, standing, None, warehouse).reason
    assert not decide(challenger, standing, None, warehouse).takes_over


def test_a_champion_without_folds_takes_those_of_a_run_that_has_it(warehouse) -> None:
    standing = candidate(warehouse, "standing", 0.48)
    again = cross_validated(warehouse, replace(standing, result="again"), 0.48, 0.48, fold_seed=7)
    of_run = [again, candidate(warehouse, "x", 0.4)]
    assert with_folds(standing, of_run).folds == ("again-fold0", "again-fold1")
    assert with_folds(standing, of_run).division == (2, 7)
    assert with_folds(standing, of_run[1:]) is standing
    assert with_folds(None, of_run) is None


def test_a_lower_error_over_the_folds_takes_over(warehouse) -> None:
    def with_error(name: str, value: float) -> Candidate:
        one = replace(candidate(warehouse, name, value), task="popularity", metric="rmse")
        return cross_validated(warehouse, one, value, value, own=0.002 * DRAWS[1] if name == "low" else None)

    high, low = with_error("high", 13.0), with_error("low", 12.0)
    assert best_in([high, low], warehouse).result == "low"


@pytest.mark.parametrize(
    ("value", "own", "takes_over"),
    [(0.49, 0.002, True), (0.483, 0.002, False), (0.40, 0.002, False), (0.49, 0.02, False)],
    ids=["better", "within noise", "worse", "too uncertain"],
)
def test_a_challenger_must_be_better_beyond_the_uncertainty(value, own, takes_over, warehouse) -> None:
    standing = candidate(warehouse, "standing", 0.48)
    challenger = candidate(warehouse, "challenger", value, own=own * DRAWS[1])
    decision = decide(challenger, standing, None, warehouse)
    assert decision.takes_over is takes_over
    assert f"{value:.4f} against 0.4800" in decision.reason
    assert ("not beyond the uncertainty" in decision.reason) is not takes_over
    assert decision.replaced == (standing.title if takes_over else None)


@pytest.mark.parametrize(
    ("change", "takes_over", "reason"),
    [
        ({"budget": "smoke"}, False, "budget smoke, against cold_start, budget full"),
        ({"protocol": "label_free"}, False, "label_free"),
        ({"rows": 40}, True, "the data changed"),
    ],
)
def test_what_cannot_be_compared(change, takes_over, reason, warehouse) -> None:
    """Higher in tier takes over though its figure is lower, and the other way round never."""
    standing = candidate(warehouse, "standing", 0.48)
    other = candidate(warehouse, "other", 0.30 if takes_over else 0.60, **change)
    decision = decide(other, standing, None, warehouse)
    assert (decision.takes_over, reason in decision.reason) == (takes_over, True)
    if not takes_over:
        assert decide(standing, other, None, warehouse).takes_over


def test_tracks_appended_for_training_alone_do_not_let_a_worse_model_take_over(warehouse) -> None:
    standing = candidate(warehouse, "standing", 0.48)
    worse = candidate(warehouse, "worse", 0.30, staging="with tracks appended, and the same validation rows")
    assert not decide(worse, standing, None, warehouse).takes_over


def test_a_champion_that_can_no_longer_predict_is_replaced(warehouse) -> None:
    standing = candidate(warehouse, "standing", 0.48)
    assert not decide(candidate(warehouse, "worse", 0.40), standing, None, warehouse).takes_over
    decision = decide(candidate(warehouse, "worse2", 0.40), standing, "its model file is gone", warehouse)
    assert decision.takes_over
    assert "its model file is gone" in decision.reason
    assert champions._obstacle(standing, warehouse) == "its model file is gone"


def test_a_champion_that_can_no_longer_predict_is_replaced_by_one_of_any_budget(warehouse) -> None:
    standing = candidate(warehouse, "standing", 0.48)
    quick = candidate(warehouse, "quick", 0.30, budget="smoke")
    assert decide(quick, standing, "its model file is gone", warehouse).takes_over
    assert not decide(quick, standing, None, warehouse).takes_over
    assert decide(standing, quick, None, warehouse).takes_over


def test_a_runs_champions_are_recorded_published_and_stay(trained) -> None:
    [genre, popularity] = sorted(history(trained), key=lambda one: one.candidate.task)
    assert (genre.candidate.is_generated, genre.candidate.cell.budget) == (True, "smoke")
    assert genre.calibration.log_loss <= genre.calibration.log_loss_uncalibrated + 0.05
    assert popularity.calibration.coverage_low <= 0.9 <= popularity.calibration.coverage_high
    models = {one.cell.model for one in candidates(trained) if one.task == "genre"}
    assert models == {"xgboost", "logistic_regression", "multitask_tuned"}  # svm has no probabilities
    best = max(one.value for one in candidates(trained) if one.task == "genre")
    assert best - genre.candidate.value < 0.05
    with duckdb.connect(str(trained.database), read_only=True) as connection:
        rows = connection.execute(
            "select task, model, is_current, replaced, model_sha256 from results.champions order by task"
        ).fetchall()
    assert rows == [
        (one.candidate.task, one.candidate.cell.model, True, None, one.candidate.model_sha256)
        for one in (genre, popularity)
    ]
    run_id = genre.candidate.run_id
    assert all("it is the champion already" in line for line in choose(run_id, trained, 1))
    assert len(history(trained)) == 2


def test_champions_of_another_catalogue_do_not_predict(trained, tmp_path) -> None:
    home = Warehouse.at(shutil.copytree(trained.root, tmp_path / "copy"))
    [one, other] = current(trained)
    foreign = replace(one, candidate=replace(one.candidate, catalogue="/other.csv"), chosen_at=datetime.now(UTC))
    home.write_rows(home.table("champions", "decisions", "foreign"), [champions._row(foreign)], champions.CHAMPIONS)
    assert len(history(home)) == 3
    assert predictors(home, None, 1) == {each.candidate.task: each for each in (one, other)}


def test_another_model_by_name(trained) -> None:
    named = predictors_named("xgboost", ("genre", "popularity"), trained)
    assert {task: (one.task, one.cell.model) for task, one in named.items()} == {
        task: (task, "xgboost") for task in ("genre", "popularity")
    }
    assert list(predictors_named("gradient_boosting", ("genre", "popularity"), trained)) == ["popularity"]
    for name, message in (
        ("xgb", "Unknown model 'xgb'. Known: "),
        ("knn", "No model 'knn'.* is stored .* Train it there: python -m flows.benchmark .* --models knn"),
        ("random_forest", "Unknown model"),  # never kept as a file
        ("svm", "gives no probabilities"),
    ):
        with pytest.raises(UserError, match=message):
            predictors_named(name, ("genre", "popularity"), trained)


def test_without_any_model_the_command_to_run_is_named(warehouse) -> None:
    with pytest.raises(UserError, match=r"python -m flows\.benchmark .*--protocol cold_start"):
        predictors(warehouse, None, 1)


def test_features_of_other_sql_are_refused(trained, monkeypatch) -> None:
    version = current(trained)[0].candidate.feature_version
    assert set(lineage(version, trained)) >= {"features.fill_values", "features.scaling", "staging.stg_tracks"}
    monkeypatch.setattr(duckdb, "__version__", "0")
    with pytest.raises(UserError, match="not prepared by the SQL and the DuckDB of today"):
        lineage(version, trained)
    assert "DuckDB" in (champions._obstacle(current(trained)[0].candidate, trained) or "")


def test_upkeep_keeps_what_champions_need(trained, tmp_path) -> None:
    """Even if no kept run reports it: a later run that pushed the champions' own out."""
    home = Warehouse.at(shutil.copytree(trained.root, tmp_path / "copy"))
    before = current(home)
    run = start_run(ingest("sample:1000", {}, 0.05, home), "smoke", home)
    for name in ("started", "finished"):
        home.table("runs", name, before[0].candidate.run_id).unlink()
    finish_run(run, "completed", [], home)
    report = tidy(Policy(keep_runs=1, grace_hours=0), 0, lambda: None, home)
    assert any("cells" in name or "cell" in item.kind for name, item in report.going.items())
    assert [one.candidate.result for one in current(home)] == [one.candidate.result for one in before]
    assert {champions._obstacle(one.candidate, home) for one in before} == {None}
