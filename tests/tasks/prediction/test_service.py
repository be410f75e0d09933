from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from unittest.mock import Mock

import pytest

from tasks.errors import UserError
from tasks.ingest.read import ingest
from tasks.prediction import champions
from tasks.prediction import service as serving
from tasks.prediction.champions import Champion, predictors
from tasks.prediction.predictor import RowPredictor
from tasks.prediction.service import BadTracksError, Service, UnavailableError
from tasks.storage.warehouse import Warehouse
from tasks.training.runs import finish_run, start_run
from tests.helpers.commands import until

TRACK = {"energy": 0.5, "tempo": 120}


@pytest.fixture
def home(trained, tmp_path) -> Warehouse:
    """A copy of the trained warehouse without champions."""
    shutil.copytree(trained.root, tmp_path / "warehouse")
    shutil.rmtree(tmp_path / "warehouse" / "champions")
    return Warehouse.at(tmp_path / "warehouse")


def decide(home: Warehouse, run_id: str, champion: Champion) -> None:
    """As the end of a run does."""
    row = champions._row(replace(champion, chosen_at=datetime.now(UTC)))
    home.write_rows(home.table("champions", "decisions", run_id), [row], champions.CHAMPIONS)


def test_new_champions_take_over_while_it_answers(trained, home, monkeypatch) -> None:
    monkeypatch.setattr(serving, "POLL_SECONDS", 0.05)
    first = predictors(trained, "xgboost", 1)["popularity"]
    second = predictors(trained, "gradient_boosting", 1)["popularity"]
    told: list[str] = []
    seen: list[str] = []
    with Service(home, None, 1, told.append) as service:
        with pytest.raises(UnavailableError, match=r"flows\.benchmark"):
            service.predict([TRACK])
        decide(home, "first", first)
        until(lambda: service.predictor is not None)
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                seen.append(service.predict([TRACK])["popularity_model"][0].as_py().split("@")[0])

        with ThreadPoolExecutor(3) as pool:
            asking = [pool.submit(ask) for _ in range(3)]
            try:
                until(lambda: "xgboost" in seen)
                decide(home, "second", second)
                until(lambda: "gradient_boosting" in seen)
                decide(home, "third", replace(first, candidate=replace(first.candidate, model_sha256="0")))
                until(lambda: service.problem)
                before = len(seen)
                until(lambda: len(seen) > before + 6)
            finally:
                done.set()
            assert [future.result() for future in asking] == [None] * 3
        assert service.problem == "The champion for popularity cannot be loaded; the service's own log says why."
        assert seen[-1] == "gradient_boosting" and set(seen) == {"xgboost", "gradient_boosting"}
    assert "SHA-256 differs" in told[-1]
    with pytest.raises(UnavailableError, match="ending"):
        service.predict([TRACK])


def test_a_folder_that_does_not_answer_for_a_moment_is_looked_at_again(warehouse, monkeypatch) -> None:
    monkeypatch.setattr(serving, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(serving, "RETRY_SECONDS", 0.1)
    with Service(warehouse, None, 1, lambda _: None) as service:
        with monkeypatch.context() as patch:
            patch.setattr(Warehouse, "files", Mock(side_effect=OSError("Stale file handle")))
            until(lambda: service.problem and "The warehouse does not answer" in service.problem)
        until(lambda: "No model has been trained" in (service.problem or ""))


def test_a_service_that_could_not_answer_does_not_begin(warehouse, monkeypatch) -> None:
    monkeypatch.setenv("MUSIC_MEMORY_LIMIT", "much")
    with pytest.raises(UserError, match="MUSIC_MEMORY_LIMIT is 'much'"), Service(warehouse, None, 1, print):
        pass


def test_a_pass_that_fails_is_tried_request_by_request(trained, home, monkeypatch) -> None:
    """Also: what was loaded needs no file any more."""
    decide(home, "first", predictors(trained, "gradient_boosting", 1)["popularity"])
    predict = RowPredictor.predict
    entered, released = threading.Event(), threading.Event()

    def fragile(predictor, rows):
        entered.set()
        released.wait(60)
        if any(row.get("energy") == 0.666 for row in rows):
            raise RuntimeError("boom")
        return predict(predictor, rows)

    with Service(home, None, 1, print) as service, ThreadPoolExecutor(5) as pool:
        shutil.rmtree(home.root)
        monkeypatch.setattr(RowPredictor, "predict", fragile)
        answers = [pool.submit(service.predict, [TRACK])]
        assert entered.wait(60)
        answers += [pool.submit(service.predict, [TRACK, {**TRACK, "energy": e}]) for e in (0.666, "x", 0.3, 0.4)]
        until(lambda: service._requests.qsize() == 4, 60)  # the first is in its pass
        released.set()
        errors = [answer.exception() for answer in answers]
        assert [type(error) for error in errors if error] == [RuntimeError, BadTracksError]
        assert [(bad.row, bad.column) for bad in errors[2].found] == [(1, "energy")]
        assert answers[4].result()["row_number"].to_pylist() == [1, 2]


def test_a_model_that_is_gone_does_not_silence_the_other_task(trained, home) -> None:
    """Nor does a champion that cannot be loaded replace the one before it; the other task's new one takes over."""
    genre = predictors(trained, "logistic_regression", 1)["genre"]
    first, second = (predictors(trained, name, 1)["popularity"] for name in ("xgboost", "gradient_boosting"))
    told: list[str] = []
    decide(home, "genre", genre)
    decide(home, "popularity", first)
    model = home.root / genre.candidate.model_path
    model.rename(model.with_suffix(".away"))
    with Service(home, None, 1, told.append) as service:
        answer = service.predict([TRACK])
        assert answer["popularity_model"][0].as_py().startswith("xgboost@")
        assert answer["predicted_genre"][0].as_py() is None
        assert service.problem == "The champion for genre cannot be loaded; the service's own log says why."
        assert str(home.root) in " ".join(told) or "model" in told[-1]
        model.with_suffix(".away").rename(model)
        decide(home, "popularity 2", second)
        until(lambda: service.problem is None)
        answer = service.predict([TRACK])
        assert answer["popularity_model"][0].as_py().startswith("gradient_boosting@")
        assert answer["predicted_genre"][0].as_py() is not None


def test_another_catalogue_takes_over_all_tasks(trained, home, monkeypatch) -> None:
    """Its run is completed first, and its champions are chosen after that; no task is left to the catalogue before."""
    monkeypatch.setattr(serving, "POLL_SECONDS", 0.05)
    genre = predictors(trained, "logistic_regression", 1)["genre"]
    popularity = predictors(trained, "gradient_boosting", 1)["popularity"]
    decide(home, "genre", genre)
    decide(home, "popularity", popularity)
    with Service(home, None, 1, print) as service:
        assert service.predict([TRACK])["predicted_genre"][0].as_py() is not None
        snapshot = replace(ingest("snapshot:latest", {}, 0.05, home), catalogue="/other.csv")
        finish_run(start_run(snapshot, "smoke", home, as_current=True), "completed", [], home)
        until(lambda: service.problem)
        assert service.predict([TRACK])["predicted_genre"][0].as_py() is not None
        decide(home, "other", replace(popularity, candidate=replace(popularity.candidate, catalogue="/other.csv")))
        until(lambda: service.problem is None)
        answer = service.predict([TRACK])
    assert answer["popularity"][0].as_py() is not None
    assert answer["predicted_genre"][0].as_py() is None
