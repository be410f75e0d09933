"""Whose results a warehouse shows: run after run as a user sees it, and from records of any kind."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest

from tasks.errors import NoModelError, UserError
from tasks.features.build import build_features
from tasks.features.registry import read_registry
from tasks.feedback.nearest import known_tracks
from tasks.ingest.read import Append, ingest
from tasks.ingest.source_names import catalogue_of
from tasks.prediction.candidates import predictors_named
from tasks.prediction.champions import predictors
from tasks.reporting import report, terminal
from tasks.results.publish import publish
from tasks.storage.warehouse import Warehouse
from tasks.training.catalogues import Catalogues
from tasks.training.runs import FINISHED, STARTED
from tasks.upkeep.cleanup import Policy, tidy
from tests.helpers.amounts import amount
from tests.helpers.runs import make_run
from tests.helpers.tracks import many

MODELS = ("linear", "logistic_regression")
TOLD = "This run is a trial"


def run(home: Warehouse, source: object, *, as_current: bool = False, models: tuple[str, ...] = MODELS) -> str:
    return make_run(home, str(source), models, protocols=["cold_start"], as_current=as_current, chooses=True)


def query(home: Warehouse, statement: str) -> list[tuple]:
    with duckdb.connect(str(home.database), read_only=True) as connection:
        return connection.execute(statement).fetchall()


def shown(home: Warehouse) -> dict[str, object]:
    """The sources of what is shown without asking for a catalogue."""
    page = report.write_report(None, home)
    assert TOLD not in page.read_text("utf-8")
    return {
        "champions": {task: one.candidate.source for task, one in predictors(home, None, 1).items()},
        "by name": predictors_named("linear", ("popularity",), home)["popularity"].source,
        "published": dict(query(home, "select task, source from results.champions where is_current")),
        "known": known_tracks(home).source,
        "leaderboard": query(home, "select model, source from results.leaderboard order by all"),
        "report": query(home, f"select source from results.runs where run_id = '{page.stem}'"),
    }


def all_of(source: str) -> dict[str, object]:
    return {
        "champions": {"genre": source, "popularity": source},
        "by name": source,
        "published": {"genre": source, "popularity": source},
        "known": source,
        "leaderboard": [("linear", source), ("logistic_regression", source)],
        "report": [(source,)],
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Three small catalogues, one with another one's name."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "other").mkdir()
    paths = {"a": folder / "a.csv", "b": folder / "b.csv", "other a": folder / "other" / "a.csv"}
    for rows, path in zip((120, 140, 160), paths.values(), strict=True):
        many(rows).write_csv(path)
    return paths


@pytest.fixture(scope="module")
def first(tmp_path_factory, files) -> Warehouse:
    """A warehouse after its first run, of catalogue a."""
    home = Warehouse.at(tmp_path_factory.mktemp("first"))
    run(home, files["a"])
    return home


@pytest.fixture
def home(first, tmp_path) -> Warehouse:
    home = Warehouse.at(shutil.copytree(first.root, tmp_path / "warehouse"))
    publish_again(home)  # where it is now
    return home


def publish_again(home: Warehouse) -> None:
    snapshot = ingest("snapshot:latest", {}, 0.05, home)
    publish(snapshot, [row for row in read_registry(home) if row.snapshot == snapshot.snapshot], home)


@pytest.mark.long
def test_the_story_of_a_trial_and_of_another_catalogue(home, files, capsys) -> None:
    of_a = query(home, "select run_id from results.runs")
    assert shown(home) == all_of("a.csv")
    for source in ("sample:300", files["other a"]):
        trial = run(home, source)
        assert shown(home) == all_of("a.csv")
        assert report.write_report(trial, home).read_text("utf-8").count(f"{TOLD} beside the current catalogue, a.csv")
        terminal.print_run(trial, home)
        printed = " ".join(capsys.readouterr().out.split())
        assert f"{TOLD} beside the current catalogue, a.csv, whose champions predict new tracks." in printed
        suggested = printed.split("flows.query --warehouse")[1].split('"')[1]
        assert len(query(home, suggested)) == 2
    run(home, files["b"], as_current=True)
    assert shown(home) == all_of("b.csv")
    assert query(home, "select source, is_current, n_runs from results.catalogues order by run_started_at") == [
        ("a.csv", False, 1),
        ("sample:300", False, 1),
        ("a.csv", False, 1),
        ("b.csv", True, 1),
    ]
    boards = query(home, "select catalogue, count(*), bool_or(is_current) from results.leaderboards group by all")
    assert sorted(boards) == sorted(
        [(str(path), 2, name == "b") for name, path in files.items()] + [("sample", 2, False)]
    )
    run(home, files["a"])  # what was the current one is now a trial, and can be made the current one again
    assert shown(home) == all_of("b.csv")
    run(home, files["a"], as_current=True)
    assert shown(home) == all_of("a.csv")
    assert [report.write_report(run_id, home).exists() for (run_id,) in of_a] == [True]


@pytest.mark.slow
def test_a_copy_of_the_current_file_is_another_catalogue_that_shares_its_cells(home, files, tmp_path) -> None:
    copy = tmp_path / "copy.csv"
    shutil.copy(files["a"], copy)
    run(home, copy)
    assert query(home, "select distinct reused from results.cells where source = 'copy.csv'") == [(True,)]
    assert shown(home) == all_of("a.csv")
    run(home, copy, as_current=True)
    latest = ingest("snapshot:latest", {}, 0.05, home)
    assert shown(home) == all_of("copy.csv") | {"known": "a.csv"}  # the name that it was first read by
    assert Catalogues.of(home).placed(latest, home).catalogue == str(copy)


@pytest.mark.long
def test_another_night_is_another_snapshot_of_the_same_catalogue(home, files, tmp_path, monkeypatch) -> None:
    night = tmp_path / "night.csv"
    many(130).write_csv(night)
    make_run(home, str(night), MODELS, protocols=["cold_start"], as_current=True)
    many(150).write_csv(night)
    monkeypatch.chdir(tmp_path)
    latest = make_run(home, "night.csv", MODELS, protocols=["cold_start"])
    board = query(home, "select model, run_id from results.leaderboard order by all")
    assert board == [(model, latest) for model in MODELS]  # each once, on the newest tracks
    assert query(home, "select count(*) from results.leaderboards where source = 'night.csv'") == [(4,)]
    assert (known_tracks(home).source, known_tracks(home).n_rows) == ("night.csv", 150)


@pytest.mark.long
def test_appended_tracks_belong_to_the_catalogue_that_they_were_appended_to(home, files, tmp_path) -> None:
    base = ingest("snapshot:latest", {}, 0.05, home)
    more = tmp_path / "more.csv"
    many(40).with_columns(instance_id=(10_000 + pl.int_range(pl.len())).cast(pl.String)).write_csv(more)
    appended = ingest(str(more), {}, 0.5, home, Append(base.snapshot))
    make_run(home, f"snapshot:{appended.snapshot}", MODELS, protocols=["cold_start"])
    assert set(Catalogues.of(home).of_run.values()) == {str(files["a"])}
    assert query(home, "select distinct source from results.leaderboard") == [("a.csv + more.csv",)]
    assert known_tracks(home).source == "a.csv + more.csv"


@pytest.mark.slow
def test_features_of_another_file_change_no_known_tracks(home, files) -> None:
    build_features(ingest(str(files["b"]), {}, 0.05, home), "cold_start", 2, home)
    assert known_tracks(home).source == "a.csv"


@pytest.mark.slow
def test_features_of_real_data_are_known_beside_a_sample_that_none_asked_for(warehouse, files) -> None:
    make_run(warehouse, "sample:1000", ["linear"])
    build_features(ingest(str(files["b"]), {}, 0.05, warehouse), "cold_start", 2, warehouse)
    assert known_tracks(warehouse).source == files["b"].name


@pytest.mark.slow
def test_a_catalogue_without_champions_predicts_nothing(home, files) -> None:
    make_run(home, str(files["b"]), ["linear"], protocols=["published"], as_current=True)
    with pytest.raises(NoModelError, match=rf"Of its current catalogue, {files['b']}, no model"):
        predictors(home, None, 1)
    with pytest.raises(UserError, match=rf"no known tracks of its current catalogue, {files['b']},"):
        known_tracks(home)
    with pytest.raises(UserError, match="for the current catalogue"):
        predictors_named("linear", ("popularity",), home)


@pytest.mark.slow
def test_trials_displace_nothing_of_the_current_catalogue(home, files) -> None:
    for rows in range(203 - amount(1, 3), 203):
        make_run(home, f"sample:{rows}", ["linear"])
    tidy(Policy(keep_runs=1, grace_hours=0), 0.0, lambda: None, home)
    assert query(home, "select source from results.runs order by started_at") == [("a.csv",), ("sample:202",)]
    assert shown(home) == all_of("a.csv")


@pytest.mark.long
def test_the_run_that_decides_stays_as_long_as_that_needs_it(home, files, tmp_path) -> None:
    nightly = tmp_path / "nightly.csv"
    many(170).write_csv(nightly)
    decided_by = make_run(home, str(nightly), ["linear"], as_current=True)
    make_run(home, str(files["b"]), ["linear"])
    many(150).write_csv(nightly)
    make_run(home, str(nightly), ["linear"])
    tidy(Policy(keep_runs=1, grace_hours=0), 0.0, lambda: None, home)
    assert Catalogues.of(home).decided_by == decided_by  # without it, the oldest run left would be of another catalogue
    make_run(home, str(nightly), ["linear"], as_current=True)
    tidy(Policy(keep_runs=1, grace_hours=0), 0.0, lambda: None, home)
    assert (decided_by,) not in query(home, "select run_id from results.runs")


def without(home: Warehouse, *tables: tuple[str, str], columns: tuple[str, ...] = ("catalogue", "as_current")) -> None:
    """Records as earlier versions wrote them."""
    for name in tables:
        for file in home.files(*name):
            table = pq.read_table(file)
            pq.write_table(table.drop_columns([column for column in columns if column in table.column_names]), file)


RECORDS = (("runs", "started"), ("raw", "snapshots"), ("champions", "decisions"))


@pytest.mark.long
def test_a_warehouse_of_an_earlier_version_goes_on_with_its_real_data(home, files) -> None:
    run(home, "sample:300")
    run(home, files["b"])
    run(home, "sample:310")
    without(home, *RECORDS)
    assert Catalogues.of(home).current == "b.csv"  # the newest real data was shown
    publish_again(home)
    assert shown(home) == all_of("b.csv")
    snapshot = ingest(str(files["b"]), {}, 0.05, home)
    assert Catalogues.of(home).trial(snapshot) is None
    before = predictors(home, None, 1)
    run(home, files["b"])
    assert Catalogues.of(home).current == str(files["b"])
    assert shown(home) == all_of("b.csv")
    assert query(home, "select n_runs, catalogue from results.catalogues where is_current") == [(2, str(files["b"]))]
    assert {task: one.candidate.result for task, one in predictors(home, None, 1).items()} == {
        task: one.candidate.result for task, one in before.items()
    }
    assert TOLD in str(Catalogues.of(home).trial(ingest(str(files["a"]), {}, 0.05, home)))


@pytest.mark.slow
def test_a_publication_of_an_earlier_version_is_told_of_in_one_line(home) -> None:
    with duckdb.connect(str(home.database)) as connection:
        connection.execute("alter table results.fold_cells drop column fold_seed")
    with pytest.raises(UserError, match=r"published by an earlier version.*flows\.features.*fold_seed"):
        report.write_report(None, home)
    with duckdb.connect(str(home.database)) as connection:
        connection.execute("alter table results.runs drop column is_current")
    with pytest.raises(UserError, match="published by an earlier version"):
        report.write_report(None, home)


Record = tuple[str, bool | None, str | None]  # catalogue, as_current and status of a run


def recorded(home: Warehouse, records: list[Record]) -> Catalogues:
    for number, (catalogue, as_current, status) in enumerate(records):
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number)
        row = {
            "run_id": f"r{number}", "started_at": at, "budget": "smoke", "source": catalogue.rsplit("/", 1)[-1],
            "is_generated": catalogue == "sample", "is_study_file": False, "snapshot": "s", "versions": "{}",
            "cpu_count": 1, "host": "h", "pid": 1, "pid_started": 0.0,
            "catalogue": None if as_current is None else catalogue, "as_current": as_current,
        }  # fmt: skip
        home.write_rows(home.table("runs", "started", row["run_id"]), [row], STARTED)
        if status:
            ended = {"run_id": row["run_id"], "finished_at": at, "status": status, "cells": []}
            home.write_rows(home.table("runs", "finished", row["run_id"]), [ended], FINISHED)
    return Catalogues.of(home)


@pytest.mark.parametrize(
    ("records", "current"),
    [
        ([], None),
        ([("/a", False, None), ("/b", False, "failed"), ("/c", True, "interrupted")], None),
        ([("/a", False, "completed"), ("/b", False, "completed")], "/a"),
        ([("/a", False, None), ("/b", False, "completed")], "/b"),  # the first was killed
        ([("sample", False, "completed"), ("/a", False, "completed"), ("/b", False, "completed")], "/a"),
        ([("sample", True, "completed"), ("/a", False, "completed")], "sample"),
        ([("/a", False, "completed"), ("sample", False, "completed")], "/a"),
        ([("/a", False, "completed"), ("/b", True, "completed"), ("/a", False, "completed")], "/b"),
        ([("/a", False, "completed"), ("/b", True, None)], "/a"),  # killed, or not yet ended
        ([("/a", True, "completed"), ("/b", True, "completed")], "/b"),
        ([("sample", None, "completed"), ("/a", None, "completed"), ("sample", None, "completed")], "a"),
        ([("/a", None, "completed"), ("/b", None, "completed")], "b"),
        ([("/x/a", None, "completed"), ("sample", False, "completed"), ("/y/a", False, "completed")], "/y/a"),
        ([("sample", None, "completed")], "sample"),
        ([("/a", None, "completed"), ("/b", True, "completed")], "/b"),
    ],
)
def test_the_records_of_runs_decide(records, current, warehouse) -> None:
    assert recorded(warehouse, records).current == current


@pytest.mark.parametrize("asked", [False, True])
def test_real_data_takes_the_place_of_the_sample_unless_it_was_asked_for(asked, warehouse, files) -> None:
    real = ingest(str(files["a"]), {}, 0.05, warehouse)
    found = recorded(warehouse, [("sample", asked, "completed")])
    assert (found.trial(real) is None) is not asked
    found = recorded(warehouse, [("sample", asked, "completed"), ("/b", False, "completed")])
    assert found.trial(real)


@pytest.mark.parametrize(
    ("source", "catalogue"),
    [
        ("sample", "sample"),
        ("sample:50", "sample"),
        ("/data/x/../a.csv", "/data/a.csv"),
        ("file:///data/a.csv", "/data/a.csv"),
        ("https://user:secret@host/a.csv?token=1", "https://host/a.csv"),
        ("s3://bucket/a.parquet", "s3://bucket/a.parquet"),
    ],
)
def test_what_a_source_names(source, catalogue) -> None:
    assert catalogue_of(source) == catalogue


def test_a_link_is_a_catalogue_whatever_it_leads_to(files, tmp_path, monkeypatch) -> None:
    (tmp_path / "current.csv").symlink_to(files["a"])
    monkeypatch.chdir(tmp_path)
    assert catalogue_of("current.csv") == catalogue_of("./current.csv") == str(tmp_path / "current.csv")


@pytest.mark.slow
def test_every_table_of_cells_or_metrics_says_of_which_source_it_is(first) -> None:
    columns = query(
        first,
        """
        select table_name, list(column_name)
        from information_schema.columns where table_schema = 'results' group by all
        """,
    )
    of_results = {"run_id", "metric", "model", "ceiling"}
    without_source = {name for name, named in columns if of_results & {*named} and "source" not in named}
    assert without_source == {"published"}  # the study's own figures
    assert len(columns) > 30
