from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xgboost

from tasks.feedback.adviser import Adviser
from tasks.feedback.explain import Explainer, contributions, explained, is_explainable
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


def test_contributions_add_up_to_the_predicted_popularity() -> None:
    model = xgboost.XGBRegressor(n_estimators=200, max_depth=6, n_jobs=1).fit(X, 50 + 20 * X[:, 0] * X[:, 1])
    found = contributions(model, "popularity", X)
    assert found.shape == (400, 1, 6)
    np.testing.assert_allclose(found[:, 0].sum(axis=1), model.predict(X), rtol=1e-5, atol=1e-4)
    assert np.abs(found[:, 0, :2]).sum() > 5 * np.abs(found[:, 0, 2:5]).sum()  # the two that matter


@pytest.mark.parametrize("n_genres", [2, 3, 10])
def test_contributions_add_up_to_the_genres_probabilities(n_genres) -> None:
    y = np.digitize(X[:, 0] + X[:, 1] * X[:, 2], np.quantile(X[:, 0], np.linspace(0, 1, n_genres + 1)[1:-1]))
    model = xgboost.XGBClassifier(n_estimators=40, max_depth=4, n_jobs=1).fit(X, y)
    found = contributions(model, "genre", X)
    assert found.shape == (400, n_genres, 6)
    np.testing.assert_allclose(softmax(found.sum(axis=2)), model.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-12)  # what moves all genres alike counts as nothing


def test_a_feature_that_no_tree_asks_for_has_no_contribution() -> None:
    x = np.column_stack([X[:, 0], np.zeros(400, np.float32)])
    model = xgboost.XGBRegressor(n_estimators=20, n_jobs=1).fit(x, X[:, 0])
    assert (contributions(model, "popularity", x)[:, 0, 1] == 0).all()


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
