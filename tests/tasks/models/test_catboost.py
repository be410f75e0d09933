"""CatBoost: an optional library, whose models are trained, kept and explained like others where it is installed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from tasks.errors import PluginError
from tasks.feedback.adviser import Adviser
from tasks.feedback.track import selected_track
from tasks.models.files import load_model, save_model
from tasks.models.inference import predict
from tasks.models.registry import MODELS
from tasks.prediction import champions
from tasks.prediction.batch import predict_file
from tasks.training.train import _feature_importances
from tests.helpers.commands import ROOT
from tests.helpers.runs import make_run
from tests.helpers.stored import candidate
from tests.helpers.tracks import TRACK

GENRE, POPULARITY = MODELS["genre/catboost"], MODELS["popularity/catboost"]
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(600, 3)).astype(np.float32)
POINTS = 50 + 20 * X[:, 0]


def fitted(spec, y, threads=1, seed=42):
    return spec.build(spec.parameters_for("smoke"), seed, threads).fit(X, y)


@pytest.mark.parametrize(("spec", "y"), [(GENRE, (X[:, 0] > 0).astype(int)), (POPULARITY, POINTS)])
def test_the_seed_decides_and_the_number_of_threads_does_not(spec, y) -> None:
    one, two, other = (fitted(spec, y, threads, seed).predict(X) for threads, seed in ((1, 42), (2, 42), (1, 43)))
    np.testing.assert_array_equal(one, two)
    assert spec is GENRE or not np.array_equal(one, other)


def test_it_writes_no_file_and_prints_nothing(tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    fitted(POPULARITY, POINTS).predict(X)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("codes", [[0, 1], [0, 2, 3]])  # of genres; one without training rows has no code there
def test_probabilities_are_by_genre_code(codes) -> None:
    y = RANDOM.permutation(np.resize(codes, len(X)))
    x = (np.eye(4)[y] + RANDOM.normal(0, 0.1, (len(X), 4))).astype(np.float32)
    estimator = GENRE.build(GENRE.parameters_for("smoke"), 42, 1).fit(x, y)
    predicted = predict(estimator, GENRE, x, 4)
    np.testing.assert_array_equal(predicted.values["genre"], y)
    assert predicted.probabilities.shape == (len(X), 4)
    np.testing.assert_allclose(predicted.probabilities.sum(axis=1), 1)
    assert not np.delete(predicted.probabilities, codes, axis=1).any()


def test_importances_are_shares_of_the_change_of_the_prediction() -> None:
    found = _feature_importances(fitted(POPULARITY, POINTS))
    assert found.sum() == pytest.approx(1)
    assert found[0] > 0.9
    assert _feature_importances(fitted(POPULARITY, np.full(len(X), 50.0))).tolist() == [0, 0, 0]  # no tree has a split


@pytest.mark.parametrize(("spec", "y"), [(GENRE, (X[:, 0] > 0) * 3), (POPULARITY, POINTS)])
def test_a_stored_model_predicts_the_same_with_the_threads_of_its_reader(spec, y, warehouse) -> None:
    folder = warehouse.cell("key-run")
    folder.mkdir(parents=True)
    model = fitted(spec, y)
    name, sha256 = save_model(model, folder)
    assert name == "model.cbm"
    loaded = load_model(spec, f"cells/key-run/{name}", sha256, warehouse, threads=2)
    assert loaded.threads == 2
    before, after = (predict(one, spec, X, 4) for one in (model, loaded))
    np.testing.assert_array_equal(after.values[spec.task], before.values[spec.task])
    assert spec is POPULARITY or np.array_equal(after.probabilities, before.probabilities)


@pytest.mark.long
def test_it_predicts_new_tracks_and_is_explained_itself(warehouse, tmp_path) -> None:
    make_run(warehouse, "sample:1000", ["catboost"], protocols=["cold_start"], chooses=True)
    pl.DataFrame([TRACK | {"instance_id": "4"}]).write_csv(tmp_path / "t.csv")
    out = pl.read_parquet(predict_file(str(tmp_path / "t.csv"), str(tmp_path / "p.parquet"), warehouse).out)
    adviser = Adviser.load(warehouse, threads=1)
    with selected_track(str(tmp_path / "t.csv"), 4, {}, adviser.known, warehouse) as chosen:
        told = adviser.feedback(chosen, 2)
    assert told.because["genre"].is_champion
    assert told.because["popularity"].reasons.outputs[0] == pytest.approx(out["popularity"].item())
    assert told.prediction["predicted_genre"] == out["predicted_genre"].item()
    reasons = told.because["genre"].reasons
    assert reasons.genres[reasons.outputs.argmax()] == out["predicted_genre"].item()


HINT = "Model 'catboost' needs CatBoost, which is not installed (pip install 'music-benchmark[catboost]')."
WITHOUT = """if True:
    import sys
    sys.modules["catboost"] = None
    from tasks.models.registry import MODELS
    from tests.helpers.commands import refusal
    print(*MODELS)
    print(refusal("--models", "catboost"))
    print(refusal("tracks.csv", "--model", "catboost", flow="predict"))
    print(refusal("--task", "genre", "--model", "catboost", flow="tune"))
"""


@pytest.mark.slow
def test_without_the_library_there_are_all_other_models_and_a_hint() -> None:
    ended = subprocess.run([sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, check=True)
    models, *said = ended.stdout.splitlines()
    assert models.split() == [name for name in MODELS if "catboost" not in name]
    assert said == [f"--models: {HINT}", f"--model: {HINT}", f"--model: {HINT}"]


def test_a_stored_model_is_not_used_without_the_library(warehouse, monkeypatch) -> None:
    stored = champions.Champion(
        candidate=candidate(warehouse, "one", 0.5, model="catboost"), calibration=None, chosen_at=None, replaced=None,
        reason="",
    )  # fmt: skip
    monkeypatch.setattr(champions, "current", lambda _: [stored])
    assert champions.predictors(warehouse, None, 1) == {"genre": stored}
    monkeypatch.delitem(MODELS._specs, "genre/catboost")
    with pytest.raises(PluginError) as refused:
        champions.predictors(warehouse, None, 1)
    assert str(refused.value) == (
        "The champion for genre cannot be used: its model 'catboost' needs CatBoost, which is not installed "
        "(pip install 'music-benchmark[catboost]')."
    )
