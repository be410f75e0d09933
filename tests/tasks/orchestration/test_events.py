"""What a run changed becomes an event, and no run fails by it."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.events.clients import AssertingEventsClient
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, temporary_settings
from sklearn.linear_model import LinearRegression

from tasks.orchestration import events
from tasks.prediction import champions
from tasks.reporting import run_verdicts
from tasks.reporting.run_verdicts import RunVerdicts
from tasks.storage.warehouse import Warehouse
from tests.helpers.runs import make_run

RUNS = {"before": "20261128T030000-aaaaaa", "after": "20261129T030000-bbbbbb"}


def figure(verdict: str, metric: str = "rmse") -> dict:
    names = {"protocol": "cold_start", "task": "popularity", "model": "linear", "feature_set": "all", "metric": metric}
    return names | {"before": 12.5, "after": 12.9, "difference": 0.4, "ci_low": 0.1, "ci_high": 0.7, "verdict": verdict}


def compared(monkeypatch, *figures: dict) -> list[events.Event]:
    """The events of a run whose figures are these. Without any, there is no run before."""
    run, before = (
        {"run_id": RUNS[name], "catalogue": "/songs.csv", "budget": "full", "snapshot": "s"}
        for name in ("after", "before")
    )

    def since(run_id: str, watched: list[str], _: Warehouse) -> RunVerdicts | None:
        assert run_id == run["run_id"]
        return RunVerdicts(run=run, before=before, figures=[*figures], lost=[], watched=watched) if figures else None

    monkeypatch.setattr(run_verdicts, "since_the_run_before", since)
    return events.metrics_worsened(RUNS["after"], Warehouse.at("songs"))


def test_a_worse_headline_is_an_event(monkeypatch) -> None:
    [event] = compared(monkeypatch, figure("worse"), figure("worse", "mae"), figure("could be chance"))
    assert event.name == "music-benchmark.metric.worsened"
    assert event.resource == ("run", RUNS["after"])
    assert event.related == {"run-before": ("run", RUNS["before"])}
    assert event.payload["figures"] == [figure("worse")]
    assert event.message == (
        "1 of 2 figures of accuracy, rmse got worse. The first is rmse of linear on all (cold_start), "
        "12.50 before, 12.90 after"
    )


@pytest.mark.parametrize(
    "figures",
    [[], [figure("could be chance"), figure("same cell")], [figure("worse", "mae")], [figure("other test rows")]],
)
def test_without_a_worse_headline_there_is_no_event(figures, monkeypatch) -> None:
    assert compared(monkeypatch, *figures) == []


@pytest.mark.long
def test_a_model_that_learnt_less_than_before_is_an_event(tmp_path) -> None:
    home = Warehouse.at(tmp_path)
    make_run(home, "sample:1000", ("linear",))
    again = make_run(home, "sample:1000", ("linear",))
    others = make_run(home, "sample:1000", ("linear", "ridge"), refresh=True)
    fit = LinearRegression.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LinearRegression, "fit", lambda self, x, y, *more: fit(self, 0 * x, y, *more))
        after = make_run(home, "sample:1000", ("linear",), refresh=True)
    trial = make_run(home, "sample:1500", ("linear",))  # of other test rows
    assert [bool(events.metrics_worsened(run, home)) for run in (again, others, after, trial)] == [0, 0, 1, 0]
    [event] = events.metrics_worsened(after, home)
    assert event.related == {"run-before": ("run", again)}
    [worse] = event.payload["figures"]
    assert 0 < worse["ci_low"] < worse["difference"]


def champion(**changed: object) -> SimpleNamespace:
    cell = SimpleNamespace(model="xgboost", feature_set="all", protocol="cold_start", budget="full")
    facts = {"run_id": RUNS["after"], "catalogue": "/songs.csv", "replaced": "ridge on all", "reason": "it is better"}
    facts |= changed
    candidate = SimpleNamespace(
        task="popularity", cell=cell, metric="rmse", value=12.4, title="xgboost on all",
        run_id=facts["run_id"], catalogue=facts["catalogue"],
    )  # fmt: skip
    return SimpleNamespace(candidate=candidate, replaced=facts["replaced"], reason=facts["reason"])


def chosen(monkeypatch, *history: SimpleNamespace) -> list[events.Event]:
    monkeypatch.setattr(champions, "history", lambda _: [*history])
    monkeypatch.setattr(events.Catalogues, "of", lambda _: SimpleNamespace(current="/songs.csv"))
    return events.champions_replaced(RUNS["after"], Warehouse.at("songs"))


def test_a_champion_that_is_replaced_is_an_event(monkeypatch) -> None:
    [event] = chosen(monkeypatch, champion(run_id=RUNS["before"]), champion())
    assert event.name == "music-benchmark.champion.replaced"
    assert event.resource == ("champion", "popularity")
    assert event.message == "popularity is predicted by xgboost on all, not ridge on all: it is better"
    assert event.payload["run_id"] == RUNS["after"]
    assert event.related == {"run": ("run", RUNS["after"]), "model": ("model", "xgboost")}


@pytest.mark.parametrize("changed", [{"replaced": None}, {"run_id": RUNS["before"]}, {"catalogue": "/trial.csv"}])
def test_a_first_champion_one_of_another_run_or_of_a_trial_is_no_event(changed, monkeypatch) -> None:
    assert chosen(monkeypatch, champion(**changed)) == []


def test_alarms_are_an_event_of_the_source(warehouse) -> None:
    [event] = events.source_drifted(["tempo: mean 120 before, 95 now", "12 % new genres"], "songs.csv", warehouse)
    assert event.name == "music-benchmark.source.drifted"
    assert event.message == "songs.csv drifted: tempo: mean 120 before, 95 now, and 1 more"
    assert event.payload["alarms"] == ["tempo: mean 120 before, 95 now", "12 % new genres"]
    assert events.source_drifted([], "songs.csv", warehouse) == []


EVENT = events.Event(
    name="music-benchmark.metric.worsened", resource=("run", "2"), message="two\nlines", payload={"run_id": "2"},
    related={"run-before": ("run", "1")},
)  # fmt: skip


@pytest.fixture
def received():
    """What Prefect's client is handed, in place of a server."""
    AssertingEventsClient.reset()
    EventsWorker.set_client_override(AssertingEventsClient)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield lambda: (
            EventsWorker.drain_all(timeout=20),
            [one for it in AssertingEventsClient.all for one in it.events],
        )[1]
    EventsWorker.set_client_override(None)


def test_prefect_is_handed_a_valid_event(received) -> None:
    events.emit([EVENT])
    [event] = received()
    assert event.event == EVENT.name
    assert dict(event.resource.items())["prefect.resource.id"] == "music-benchmark.run.2"
    [related] = event.related
    assert (related.role, related.id) == ("run-before", "music-benchmark.run.1")
    assert event.payload == {"message": "two lines", "run_id": "2"}


def test_without_a_server_nothing_is_emitted(monkeypatch) -> None:
    monkeypatch.setattr(events, "emit_event", lambda *_, **__: pytest.fail("it would start a server"))
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        events.emit([EVENT])


@pytest.mark.parametrize("fails", ["emit_event", "champions_replaced"])
def test_no_run_fails_by_its_events(fails, received, warehouse, monkeypatch, caplog) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(str(uuid4()))

    monkeypatch.setattr(events, fails, broken)
    monkeypatch.setattr(events, "metrics_worsened", lambda *_: [EVENT])
    with caplog.at_level("WARNING", logger=events.__name__):
        events.emit_of_run("2", warehouse)
    assert len(received()) == (fails != "emit_event")
    assert caplog.records
