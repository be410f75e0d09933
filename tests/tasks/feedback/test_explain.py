from __future__ import annotations

from dataclasses import replace
from typing import Any

import catboost
import numpy as np
import pytest
import xgboost

from tasks.feedback.adviser import Adviser
from tasks.feedback.explain import Explainer, contributions, explained, is_explainable
from tasks.models.registry import MODELS
from tasks.prediction.candidates import candidates
from tasks.prediction.champions import predictors
from tasks.prediction.predictor import model_inputs
from tasks.prediction.preparation import prepare, read_rows
from tasks.storage import duck
from tests.helpers.tracks import TRACK

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(400, 5)).astype(np.float32)


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def boosted(task: str, library: str) -> Any:
    return MODELS[f"{task}/{library}"].build(MODELS[f"{task}/{library}"].parameters_for("smoke"), 1, 1)


EXPLAINED = pytest.mark.parametrize("library", ["xgboost", "catboost"])


@EXPLAINED
def test_contributions_add_up_to_the_predicted_popularity(library) -> None:
    model = boosted("popularity", library).fit(X, 50 + 20 * X[:, 0] * X[:, 1])
    found = contributions(model, "popularity", X)
    assert found.shape == (400, 1, 6)
    np.testing.assert_allclose(found[:, 0].sum(axis=1), model.predict(X), rtol=1e-5, atol=1e-4)
    assert np.abs(found[:, 0, :2]).sum() > 5 * np.abs(found[:, 0, 2:5]).sum()  # the two that matter


@EXPLAINED
@pytest.mark.parametrize("n_genres", [2, 3, 10])
def test_contributions_add_up_to_the_genres_probabilities(n_genres, library) -> None:
    y = np.digitize(X[:, 0] + X[:, 1] * X[:, 2], np.quantile(X[:, 0], np.linspace(0, 1, n_genres + 1)[1:-1]))
    model = boosted("genre", library).fit(X, y)
    found = contributions(model, "genre", X)
    assert found.shape == (400, n_genres, 6)
    np.testing.assert_allclose(softmax(found.sum(axis=2)), model.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-12)  # what moves all genres alike counts as nothing


@EXPLAINED
def test_a_feature_that_no_tree_asks_for_has_no_contribution(library) -> None:
    x = np.column_stack([X[:, 0], np.zeros(400, np.float32)])
    model = boosted("popularity", library).fit(x, X[:, 0])
    assert (contributions(model, "popularity", x)[:, 0, 1] == 0).all()


ONE_TREE = {
    "xgboost": xgboost.XGBRegressor(n_estimators=1, max_depth=2, learning_rate=1, reg_lambda=0, base_score=0, n_jobs=1),
    "catboost": catboost.CatBoostRegressor(
        iterations=1, depth=2, learning_rate=1, l2_leaf_reg=0, random_strength=0, bootstrap_type="No", verbose=False,
        allow_writing_files=False, thread_count=1,
    ),
}  # fmt: skip


@EXPLAINED
def test_contributions_are_means_over_the_orders_in_which_features_become_known(library) -> None:
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    model = ONE_TREE[library].fit(np.tile(x, (25, 1)), np.tile([0, 0, 0, 40], 25))
    # Of both features: 10 if neither is known, 20 or 0 if one is, 40 or 0 if both are.
    expected = [[-5, -5, 10], [-15, 5, 10], [5, -15, 10], [15, 15, 10]]
    np.testing.assert_allclose(contributions(model, "popularity", x)[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("task", ["genre", "popularity"])
def test_the_reasons_of_a_stored_model_add_up_to_what_it_predicts(trained, task) -> None:
    champion = predictors(trained, "xgboost", 1)[task]
    candidate = explained(champion, trained)
    assert candidate is not None
    explainer = Explainer.load(candidate, champion, trained, 1)
    with duck.workspace(spill=trained.root / "tmp") as connection:
        read_rows(connection, [TRACK | {"tempo": None}])
        prepared = prepare(connection, explainer.fitted, 1, 1)
    [reasons] = explainer.reasons(prepared)
    x = model_inputs(candidate, prepared)
    if task == "popularity":
        np.testing.assert_allclose(reasons.outputs, explainer.estimator.predict(x), rtol=1e-5)
    else:
        np.testing.assert_allclose(reasons.probabilities, explainer.estimator.predict_proba(x)[0], atol=1e-5)
        assert len(reasons.genres) == len(reasons.probabilities)


def test_a_champion_is_explained_itself_if_it_can_be_and_else_by_the_best_xgboost(trained) -> None:
    other = predictors(trained, "gradient_boosting", 1)["popularity"]
    stored = {one.cell.feature_set: one for one in candidates(trained) if one.title.startswith("xgboost")}
    bad = replace(stored["all"], value=1e9)  # but it is the one that predicts
    assert explained(replace(other, candidate=bad), trained) is bad
    assert not is_explainable(stored["pca"])
    assert not is_explainable(other.candidate)
    instead = explained(other, trained)
    assert instead is not None
    assert (instead.cell.model, instead.cell.feature_set, instead.task) == ("xgboost", "all", "popularity")
    foreign = replace(other, candidate=replace(other.candidate, catalogue="/other.csv"))
    assert explained(foreign, trained) is None  # no other catalogue explains a champion


def test_the_adviser_says_whose_prediction_it_took_apart(trained) -> None:
    adviser = Adviser.load(trained, "gradient_boosting", 1)
    explainer = adviser.explainers["popularity"]
    assert adviser.predictor.by_task["popularity"].candidate.cell.model == "gradient_boosting"
    assert explainer is not None
    assert explainer.candidate.cell.model == "xgboost"
