"""Warehouses at a URL, against a server of S3's interface in a process of its own."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import duckdb
import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.compute.processes import Outcome
from tasks.errors import UserError
from tasks.features.build import build_features
from tasks.features.registry import read_registry
from tasks.ingest.read import Append, ingest
from tasks.prediction.batch import predict_file
from tasks.results import database, open_tables, query
from tasks.results.publish import publish
from tasks.specs import Cell
from tasks.storage import leases
from tasks.storage.object_store import Store, StoreError
from tasks.storage.warehouse import MANIFEST, Warehouse
from tasks.training.jobs import Job, make_jobs
from tasks.training.runs import STARTED
from tasks.training.settings import save, saved_models
from tasks.training.tuning import Best, open_search
from tasks.upkeep.cleanup import CleanupOutcome, tidy
from tasks.upkeep.integrity import check
from tasks.upkeep.inventory import take_inventory
from tasks.upkeep.policy import Policy
from tests.helpers.amounts import mostly_long
from tests.helpers.commands import ROOT, clean_environment, run, until
from tests.helpers.runs import make_run
from tests.helpers.stored import trial_rows, try_until
from tests.helpers.tracks import many

pytestmark = pytest.mark.slow

pytest.importorskip("s3fs")
MODELS = ("linear", "ridge", "knn")


def make(home: Warehouse, models: tuple[str, ...] = MODELS) -> str:
    return make_run(home, "sample:400", models)


class Proxy(ThreadingHTTPServer):
    """In front of the server, to fail as it is told: `answer` says of each request whether it may pass."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Forward)
        self.behind = port
        self.answer: Callable[[str, str], int | None] = lambda _method, _path: None
        self.seen: list[str] = []


class _Forward(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Proxy

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        did = "COPY" if "x-amz-copy-source" in self.headers else self.command
        self.server.seen.append(f"{did} {self.path}")
        status = self.server.answer(self.command, self.path)
        if status == 0:
            self.close_connection = True  # as a server that dies
            return
        headers, content = {}, b"<Error><Code>InternalError</Code></Error>"
        if status is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=30)
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            status, headers, content = response.status, dict(response.headers), response.read()
            connection.close()
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in {"content-length", "connection", "transfer-encoding"}:
                self.send_header(name, value)
        is_head = self.command == "HEAD"
        self.send_header("Content-Length", headers.get("Content-Length", "0") if is_head else str(len(content)))
        self.end_headers()
        if not is_head:
            self.wfile.write(content)

    do_PUT = do_HEAD = do_POST = do_DELETE = do_GET  # noqa: N815


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of the server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(number)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until(lambda: _listens(number))
        yield number
        process.kill()


def _listens(number: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", number)) == 0


@pytest.fixture
def url(port, monkeypatch) -> str:
    """Of an empty warehouse in a bucket of its own; failures are not tried again for long."""
    bucket = f"b{uuid.uuid4().hex}"
    settings = {"ENDPOINT_URL": f"http://127.0.0.1:{port}", "ACCESS_KEY_ID": "any", "SECRET_ACCESS_KEY": "secret-key"}
    for name, value in (settings | {"DEFAULT_REGION": "us-east-1", "MAX_ATTEMPTS": "2"}).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("PUT", f"/{bucket}")
    assert connection.getresponse().status == 200
    return f"s3://{bucket}/team/music"


@pytest.fixture
def proxy(port, url, monkeypatch) -> Iterator[Proxy]:
    """Through which the warehouse of `url` is reached from then on."""
    with Proxy(port) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Callable[[str], None]:
    """Go on as on another machine: one with a working copy of its own."""
    return lambda name: monkeypatch.setenv("MUSIC_CACHE", str(tmp_path / name))


def stored(url: str) -> set[str]:
    filesystem, path = fsspec.url_to_fs(url, skip_instance_cache=True, use_listings_cache=False)
    return {name.removeprefix(f"{path}/") for name in filesystem.find(path)}


def values(home: Warehouse, sql: str) -> list[tuple]:
    with database.published(home) as connection:
        return connection.execute(sql).fetchall()


def whole_publication(url: str) -> dict | None:
    """What is published, after a look at every file of it: each is there, with the rows that the manifest says."""
    filesystem, path = fsspec.url_to_fs(url, skip_instance_cache=True, use_listings_cache=False)
    try:
        manifest = json.loads(filesystem.cat_file(f"{path}/{MANIFEST}"))
    except FileNotFoundError:
        return None
    for table in manifest["tables"].values():
        contents = [io.BytesIO(filesystem.cat_file(f"{path}/{file}")) for file in table["files"]]
        assert sum(pq.read_metadata(content).num_rows for content in contents) == table["rows"]
    assert filesystem.info(f"{path}/{manifest['database']}")["size"] > 0
    return manifest


def test_a_file_that_two_machines_store_keeps_the_checksum_of_the_first(url, machine) -> None:
    for name in ("one", "another"):
        machine(name)
        home = Warehouse.at(url)
        home.write_rows(home.table("raw", "tracks", "0" * 16), [{"id": name}], pa.schema([("id", pa.string())]))
    machine("a third")
    home = Warehouse.at(url)
    assert pq.read_table(home.here(home.table("raw", "tracks", "0" * 16)))["id"].to_pylist() == ["one"]
    assert check(home).faults == []


@pytest.mark.parametrize("kind", mostly_long(["s3", "file", "memory"], "s3"))
def test_another_machine_goes_on_with_what_one_has_stored(kind, url, machine, tmp_path) -> None:
    address = {"s3": url, "file": f"file://{tmp_path}/store", "memory": f"memory://{uuid.uuid4().hex}"}[kind]
    machine("one")
    first = make(Warehouse.at(address))
    before = stored(address)
    machine("another")
    home = Warehouse.at(address)
    second = make(home)
    fetched = list(home.root.glob("cells/*/predictions.parquet"))
    assert len(fetched) < 3  # DuckDB looks at the first ones for their columns
    assert values(home, f"select count(*) from results.cells where run_id = '{second}' and reused") == [(3,)]
    figures = "select model, metric, split, slice, value from results.metrics where run_id = '{}' order by all"
    assert values(home, figures.format(first)) == values(home, figures.format(second))
    [(rows,)] = values(home, f"select count(*) from results.predictions where run_id = '{first}'")
    assert rows == 3 * 120
    added = {name.split("/")[0] for name in stored(address) - before}
    assert added == {"runs", "published"}  # nothing was built or trained again


@pytest.mark.long
def test_folds_that_one_machine_has_trained_are_reused_on_another(url, machine) -> None:
    pooled = "select metric, value, ci_low, ci_high, n from results.cross_validations where run_id = '{}' order by all"
    found, after = [], []
    for name in ("one", "another"):
        machine(name)
        home = Warehouse.at(url)
        run_id = make_run(home, "sample:400", ("linear",), protocols=("cold_start",), folds=2)
        found.append(values(home, pooled.format(run_id)))
        after.append(stored(url))
    assert found[0] == found[1]
    assert {row[-1] for row in found[0]} == {400}
    assert {name.split("/")[0] for name in after[1] - after[0]} == {"runs", "published"}


def test_readers_need_nothing_but_the_address(url, machine) -> None:
    machine("one")
    run_id = make(Warehouse.at(url))
    machine("another")
    answer = io.StringIO()
    query.answer("select count(*) as n from features.tracks_std", "csv", Warehouse.to_read(url), answer)
    assert answer.getvalue() == "n\n400\n"
    with pytest.raises(duckdb.PermissionException):
        query.answer("from 's3://elsewhere/x.parquet'", "csv", Warehouse.to_read(url), answer)

    # Without this project: DuckDB with fsspec, on the file that the manifest names.
    manifest = whole_publication(url)
    assert manifest is not None
    home = Warehouse.at(url)
    filesystem = fsspec.filesystem("s3", skip_instance_cache=True)
    with duckdb.connect(str(home.database), read_only=True) as connection:
        connection.register_filesystem(filesystem)
        found = connection.execute("select run_id, count(*) from results.predictions group by all").fetchall()
        connection.unregister_filesystem("s3")
    assert found == [(run_id, 360)]


def test_open_tables_are_what_is_published(warehouse, monkeypatch, capsys) -> None:
    make(warehouse)
    manifest = warehouse.manifest()
    assert manifest is not None
    for name, table in manifest["tables"].items():
        files = [pq.read_table(warehouse.root / file) for file in table["files"]]
        assert sum(file.num_rows for file in files) == table["rows"]
        if name.startswith("results."):
            assert values(warehouse, f"select count(*) from {name}") == [(table["rows"],)]
            described = [row[0] for row in values(warehouse, f"describe {name}")]
            assert [*files[0].column_names] == described
    monkeypatch.chdir(warehouse.root.parent)
    [code] = re.findall(
        r"## Other engines.*?```python\n(.*?)```", (ROOT / "docs/results.md").read_text(encoding="utf-8"), re.DOTALL
    )
    exec(code, {})  # noqa: S102 - what the README shows
    printed = capsys.readouterr().out
    assert f"400 tracks; {len(manifest['tables'])} tables" in printed
    assert "linear" in printed
    listed = values(warehouse, "select table_name, sum(rows)::bigint from results.registry group by all order by all")
    assert listed == sorted((name, table["rows"]) for name, table in manifest["tables"].items())


@contextmanager
def other_machine(url: str, cache: Path, models: tuple[str, ...]) -> Iterator[subprocess.Popen[str]]:
    code = (
        "import sys; from tests.helpers.runs import make_run; from tasks.storage.warehouse import Warehouse\n"
        "print(make_run(Warehouse.at(sys.argv[1]), 'sample:400', sys.argv[2:]))"
    )
    environment = clean_environment(MUSIC_CACHE=str(cache))
    command = [sys.executable, "-c", code, url, *models]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.long
def test_of_two_runs_at_once_nothing_is_lost_and_readers_see_whole_publications(url, machine, tmp_path) -> None:
    machine("reader")
    seen = []
    ended = threading.Event()

    def read() -> None:
        while not ended.wait(0.1):
            if manifest := whole_publication(url):
                seen.append(manifest["publication"])

    with (
        ThreadPoolExecutor(1) as pool,
        other_machine(url, tmp_path / "one", ("linear", "ridge")) as one,
        other_machine(url, tmp_path / "two", ("linear", "knn")) as two,
    ):
        reading = pool.submit(read)
        try:
            runs = {process.communicate(timeout=120)[0].strip() for process in (one, two)}
        finally:
            ended.set()
        reading.result()
    assert seen
    home = Warehouse.to_read(url)
    assert {run_id for (run_id,) in values(home, "select run_id from results.runs")} == runs
    counted = values(home, "select model, count(*) from results.cells where status = 'ok' group by all order by all")
    assert counted == [("knn", 1), ("linear", 2), ("ridge", 1)]


@pytest.mark.long
def test_whoever_publishes_last_publishes_what_all_have_stored(machine, monkeypatch) -> None:
    address = f"memory://{uuid.uuid4().hex}"
    naming = open_tables.naming
    others: list[str] = []

    def interrupted(*options: Any) -> AbstractContextManager[None]:
        monkeypatch.undo()
        machine("another")
        others.append(make(Warehouse.at(address), ("ridge",)))
        machine("one")
        return naming(*options)

    machine("one")
    monkeypatch.setattr(open_tables, "naming", interrupted)
    run_id = make(Warehouse.at(address), ("linear",))
    published = values(Warehouse.to_read(address), "select run_id from results.runs order by all")
    assert published == sorted([(run_id,), (others[0],)])


@pytest.mark.long
def test_after_failures_of_the_store_a_run_goes_on_from_what_was_put(url, proxy, machine, monkeypatch) -> None:
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    trained: list[str] = []  # what each run put to the store of its own cells

    def failing_at(where: str, count: int) -> Callable[[str, str], int | None]:
        left = [count]

        def answer(method: str, path: str) -> int | None:
            is_result = method == "PUT" and path.endswith("/result.parquet")
            if method == "PUT" and where in path:
                left[0] -= 1
            if left[0] == 0:
                proxy.answer = lambda _method, _path: 500  # from now on
                return 0
            trained.extend([path] if is_result else [])
            return None

        return answer

    published = None
    for number, (where, count, cells) in enumerate(
        [
            ("/features/tracks_std/", 1, 0),
            ("/predictions.parquet", 2, 1),  # in the middle of the second cell
            ("/result.parquet", 1, 0),  # which then lacks its last file only
            ("/runs/finished/", 1, 1),
            ("/music.duckdb", 1, 0),
            ("/manifest.json", 1, 0),
            ("nowhere", 1, 0),
            ("/leaderboard.parquet", 1, 0),
        ]
    ):
        machine(f"machine {number}")
        trained.clear()
        proxy.answer = failing_at(where, count)
        if where == "nowhere":
            run_id = make(Warehouse.at(url), MODELS[:2])
            published = whole_publication(url)
            home = Warehouse.to_read(url)
            reused = f"select model from results.cells where run_id = '{run_id}' and reused order by all"
            assert values(home, reused) == [("linear",), ("ridge",)]
        else:
            with pytest.raises(StoreError) as refusal:
                make(Warehouse.at(url), MODELS[:2])
            assert "\n" not in str(refusal.value)
            assert "secret-key" not in str(refusal.value)
        assert len(trained) == cells, where
        proxy.answer = lambda _method, _path: None
        assert whole_publication(url) == published


def test_what_is_stored_is_never_written_again_but_for_manifest_and_reports(url, machine, tmp_path) -> None:
    for number, name in ((1, "one"), (2, "another")):
        machine(name)
        home = Warehouse.at(url)
        for path in ("raw/x/1.txt", "reports/r.html", MANIFEST):
            with home.replacing(home.root / path, is_rewritten=path != "raw/x/1.txt") as temporary:
                temporary.write_text(f"{number}")
    machine("reader")
    home = Warehouse.at(url)
    assert [home.here(path).read_text() for path in ("raw/x/1.txt", "reports/r.html")] == ["1", "2"]
    assert home.manifest() == 2


def test_a_failure_that_passes_is_not_noticed(url, proxy, machine, monkeypatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "4")
    machine("one")
    failures = iter([503, 0, 500])
    proxy.answer = lambda method, _path: next(failures, None) if method == "PUT" else None
    home = Warehouse.at(url)
    with home.replacing(home.root / "raw" / "x" / "1.txt") as temporary:
        temporary.write_text("content")
    assert next(failures, "none left") == "none left"
    machine("another")
    assert Warehouse.at(url).here("raw/x/1.txt").read_text() == "content"


def test_what_a_store_cannot_do_is_told_in_one_line(url, proxy, machine, monkeypatch) -> None:
    machine("one")
    for wrong, reason in (
        ("s3://no-such-bucket/x", "bucket does not exist"),
        ("s3://me:secret@bucket/x", "must not hold a user"),
        ("nowhere://bucket/x", "Protocol not known"),
    ):
        with pytest.raises(UserError, match=reason) as refusal:
            Warehouse.at(wrong)
        assert "secret" not in str(refusal.value)
    with pytest.raises(UserError, match="is no warehouse"):
        Warehouse.to_read(url)
    proxy.answer = lambda _method, _path: 403
    with pytest.raises(StoreError, match="PermissionError"):
        Warehouse.at(url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="Could not connect"):
        Warehouse.at(f"{url}/unreachable")


@pytest.mark.long
def test_the_commands_take_a_url(environment, url, proxy, tmp_path, machine) -> None:
    environment |= {"MUSIC_WAREHOUSE": url, "MUSIC_CACHE": str(tmp_path / "one")}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    options = ("--source", "sample:400", "--protocol", "cold_start", "--models", "linear,logistic_regression")
    done = run(environment, *options)
    assert done.returncode == 0, done.stderr
    assert f'python -m flows.query --warehouse {url} "select protocol, model, ' in done.stdout
    assert "secret-key" not in done.stdout + done.stderr

    environment["MUSIC_CACHE"] = str(tmp_path / "another")
    asked = run(environment, "select count(*) as n from results.champions", "--format", "csv", flow="query")
    assert (asked.stdout, asked.stderr) == ("n\n2\n", "")

    machine("a third")
    proxy.answer = lambda method, _path: None if method in {"GET", "HEAD"} else 403  # who may only read can predict
    report = predict_file("sample:100", str(tmp_path / "predicted.parquet"), Warehouse.existing(url))
    assert report.rows_predicted == 100
    proxy.answer = lambda _method, _path: None
    options = ("--task", "popularity", "--model", "xgboost_tuned", "--source", "sample:400", "--trials", "1")
    done = run(environment, *options, flow="tune")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("best of 1 trials")
    assert values(Warehouse.to_read(url), "select state from results.trials") == [("complete",)]

    done = run(environment, "--grace-hours", "0", flow="upkeep")
    assert done.returncode == 0, done.stderr
    assert re.search(r"0 runs and \d+ files gone, .*; 1 runs kept", done.stdout)
    assert not [name for name in stored(url) if name.startswith("use/")]
    assert whole_publication(url)
    with Warehouse.at(url).alone(0), pytest.raises(UserError, match=r"still in use \(upkeep of process \d+ on .*\)"):
        done = run(environment, "--wait", "0", flow="upkeep")
        raise UserError(done.stderr)


def search_job(home: Warehouse) -> Job:
    cell = Cell(
        protocol="published", task="popularity", model="extra_trees", feature_set="all", seed=42, budget="smoke"
    )
    tables = build_features(ingest("sample:400", {}, 0.05, home), "published", 20, home)
    return make_jobs([cell], tables, "tuning", home, 1)[0]


@pytest.mark.parametrize("kind", mostly_long(["s3", "file", "memory"], "memory"))
def test_a_search_goes_on_on_another_machine(kind, url, machine, tmp_path) -> None:
    address = {"s3": url, "file": f"file://{tmp_path}/store", "memory": f"memory://{uuid.uuid4().hex}"}[kind]
    tried = []
    for name, n_trials in (("one", 2), ("another", 4), ("one", 5)):  # the first with an old copy of the journal
        machine(name)
        home = Warehouse.at(address)
        study, new = try_until(n_trials, search_job(home), home)
        tried += new
    machine("reader")
    found = trial_rows(Warehouse.at(address))
    assert [(row["number"], row["study"], row["state"]) for row in found] == [(n, study, "complete") for n in range(5)]
    assert [json.loads(row["params"]) for row in found] == tried
    assert len({row["params"] for row in found}) == 5
    machine("upkeep")
    keep(Warehouse.at(address), runs=1)
    machine("a third")
    home = Warehouse.at(address)
    assert try_until(5, search_job(home), home) == (study, [])


@pytest.mark.parametrize("kind", mostly_long(["s3", "file", "memory"], "memory"))
def test_settings_that_one_machine_saves_are_known_on_another(kind, url, machine, tmp_path) -> None:
    address = {"s3": url, "file": f"file://{tmp_path}/store", "memory": f"memory://{uuid.uuid4().hex}"}[kind]
    name = "extra_trees@mine"
    for leaves in (2, 4):  # the second time under a name that was free again
        machine("one")
        home = Warehouse.at(address)
        best = Best("rmse", 12.0, None, {"min_samples_leaf": leaves}, 1)
        path = save("mine", best, "search", search_job(home), home)
        for reader in ("another", "one"):
            machine(reader)
            [spec] = saved_models([name], Warehouse.at(address))
            assert (spec.name, spec.parameters["min_samples_leaf"]) == (f"popularity/{name}", leaves)
        assert check(Warehouse.at(address)).faults == []
        with pytest.raises(UserError, match="other settings of extra_trees are saved under this name"):
            save("mine", replace(best, parameters={}), "search", search_job(home), home)
        Warehouse.at(address).discard(home.root / path)


def test_a_trial_is_in_the_journal_and_the_records_or_in_none(url, proxy, machine, monkeypatch) -> None:
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    for failing, is_counted in (("/tuning/popularity-", False), ("/tuning/trials/", True)):
        machine(f"failing at {is_counted}")
        home = Warehouse.at(url)
        job = search_job(home)
        before = len(home.files("tuning", "trials"))

        def answer(method: str, path: str, failing: str = failing) -> int | None:
            return 500 if method == "PUT" and failing in path else None

        with pytest.raises(StoreError), open_search(job, home) as search:
            trial = search.ask()
            proxy.answer = answer
            search.tell(trial, Outcome("ok", 0.5), 0.1)
        proxy.answer = lambda _method, _path: None
        machine(f"after {is_counted}")
        home = Warehouse.at(url)
        with open_search(job, home) as search:
            assert search.n_finished == len(home.files("tuning", "trials")) == before + is_counted


def test_a_search_waits_for_the_same_one_on_another_machine(machine, monkeypatch) -> None:
    machine("one")
    home = Warehouse.at(f"memory://{uuid.uuid4().hex}")
    job = search_job(home)
    assert home.store
    with open_search(job, home) as search:
        [own] = home.store.names(f"use/{search.name}.journal")
    note = f"use/{search.name}.journal/lock-00000000.elsewhere.1"
    home.store.write(note, b"")
    waited = []

    def until_the_other_ends(seconds: float) -> None:
        waited.append(seconds)
        home.store.remove_one(note)  # type: ignore[union-attr]

    monkeypatch.setattr(leases.time, "sleep", until_the_other_ends)
    with open_search(job, home):
        assert len(waited) == 1
        [another] = home.store.names(f"use/{search.name}.journal")
    assert own != another
    assert home.store.names(f"use/{search.name}.journal") == []


APPENDED = [("s3", "relearned"), ("s3", "kept"), ("file", "kept"), ("memory", "kept")]


@pytest.mark.long
@pytest.mark.parametrize(("kind", "statistics"), APPENDED)
def test_tracks_appended_on_other_machines_are_those_appended_in_a_folder(
    kind, statistics, url, proxy, machine, tmp_path, warehouse
) -> None:
    address = {"s3": url, "file": f"file://{tmp_path}/store", "memory": f"memory://{uuid.uuid4().hex}"}[kind]
    for number in range(3):
        many(200).with_columns(instance_id=pl.int_range(200 * number, 200 * number + 200).cast(pl.String)).write_csv(
            tmp_path / f"{number}.csv"
        )
    figures = {}
    for place in (str(warehouse.root), address):
        appended = None
        for number in range(3):
            machine(f"appending {number}")
            proxy.seen.clear()
            home = Warehouse.at(place)
            snapshot = ingest(str(tmp_path / f"{number}.csv"), {}, 0.05, home, appended)
            publish(snapshot, build_features(snapshot, "cold_start", 20, home), home)
            appended = Append("latest", statistics)
            put = [request for request in proxy.seen if re.match(r"(PUT|COPY) .*/features/tracks_std/.*/", request)]
        machine("training")
        home = Warehouse.at(place)
        run_id = make_run(home, "snapshot:latest", ("linear", "knn"), protocols=("cold_start",))
        assert values(home, "select status, reused from results.cells") == [("ok", False)] * 2
        read = "select table_name, version, rows from features.registry order by all"
        metrics = f"select * exclude run_id from results.metrics where run_id = '{run_id}' order by all"
        tracks = "from features.tracks_std order by track_id"
        figures[place] = [values(home, sql) for sql in (read, metrics, tracks)]
    there, here = figures[address], figures[str(warehouse.root)]
    assert there == here
    assert len(there[-1]) == 600
    manifest = whole_publication(address)
    assert manifest is not None
    files = manifest["tables"]["features.tracks_std"]["files"]
    assert len(files) == (3 if statistics == "kept" else 1)
    if kind == "s3" and statistics == "kept":  # what was there is copied by the store
        assert sorted(re.sub(r" .*/(\d+)\.parquet.*", r" \1", request) for request in put) == [
            "COPY 000000",
            "COPY 000001",
            "PUT 000002",
        ]

    machine("upkeep")
    kept_to_read = Warehouse.at(address)
    keep(kept_to_read, runs=1)
    assert whole_publication(address)
    machine("reader")
    assert values(Warehouse.to_read(address), "select count(*) from features.tracks_std") == [(600,)]


def keep(home: Warehouse, runs: int, grace_hours: float = 0.0, *, dry_run: bool = False) -> CleanupOutcome:
    return tidy(Policy(keep_runs=runs, grace_hours=grace_hours), 0.0, lambda: None, home, dry_run=dry_run)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["s3", "file", "memory"])
def test_upkeep_removes_there_what_it_removes_in_a_folder(kind, url, machine, tmp_path, warehouse) -> None:
    address = {"s3": url, "file": f"file://{tmp_path}/store", "memory": f"memory://{uuid.uuid4().hex}"}[kind]
    reports = []
    for place in (str(warehouse.root), address):
        machine("one")
        home = Warehouse.at(place)
        for rows in (400, 410):
            run_id = make_run(home, f"sample:{rows}", ("linear",))
        with home.replacing(home.report(run_id)) as temporary:
            temporary.write_text("a report")
        machine("another")
        home = Warehouse.at(place)
        before = home.sizes()
        said = keep(home, runs=1, dry_run=True)
        assert home.sizes() == before
        reports.append(keep(home, runs=1))
        assert reports[-1].going == said.going
        assert sum(home.sizes().values()) <= reports[-1].size < sum(before.values())
        assert values(home, "select run_id from results.runs") == [(run_id,)]
        [(rows,)] = values(home, "select count(*) from results.predictions")
        assert rows > 0
    folder, there = (
        Counter(item.kind for item in report.going.values() if item.kind != "sample") for report in reports
    )
    assert folder == there
    assert whole_publication(address)
    for name, size in reports[1].going.items():
        assert not [path for path in stored(address) if path.startswith(f"{name}/") or path == name], name
        assert size.size > 0

    machine("one")  # which still has a copy of all that went
    home = Warehouse.at(address)
    assert keep(home, runs=1).freed_here > 0
    here = {str(path.relative_to(home.root)) for path in home.root.rglob("*") if path.is_file()}
    assert {name for name in here if not name.startswith("tmp/")} <= stored(address)
    before = stored(address)
    again = make_run(home, "sample:410", ("linear",))
    assert values(home, f"select reused from results.cells where run_id = '{again}'") == [(True,)]
    assert {name.split("/")[0] for name in stored(address) - before} == {"runs", "published"}
    make_run(home, "sample:400", ("linear",))
    assert whole_publication(address)


@pytest.mark.long
def test_what_goes_of_a_store_goes_after_its_grace(machine) -> None:
    machine("one")
    address = f"memory://{uuid.uuid4().hex}"
    home = Warehouse.at(address)
    for rows in (400, 410):
        make_run(home, f"sample:{rows}", ("linear",))
    before = stored(address)
    report = keep(home, runs=1, grace_hours=12)
    assert {item.kind for item in report.going.values()} == {"run"}
    assert {item.kind for item in report.later.values()} >= {"snapshot", "feature version", "cell"}
    assert {name.split("/")[0] for name in before - stored(address)} == {"runs"}
    machine("another")
    make_run(Warehouse.at(address), "sample:400", ("linear",))  # which uses them again
    assert keep(Warehouse.at(address), runs=2, grace_hours=12).later == {}


@pytest.mark.long
def test_upkeep_of_a_store_that_fails_half_way_leaves_it_whole_and_goes_on(url, proxy, machine, monkeypatch) -> None:
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    machine("one")
    home = Warehouse.at(url)
    for rows in (400, 410):
        run_id = make_run(home, f"sample:{rows}", ("linear",))
    before = stored(url)
    removed = []
    for allowed in (0, 3, 8):
        machine(f"machine {allowed}")
        left = [allowed]

        def answer(method: str, path: str, left: list[int] = left) -> int | None:
            is_removal = method == "DELETE" or (method == "POST" and "delete" in path)
            left[0] -= is_removal and "/use/" not in path
            return 500 if left[0] < 0 and "/use/" not in path else None

        proxy.answer = answer
        with pytest.raises(StoreError):
            keep(Warehouse.at(url), runs=1)
        proxy.answer = lambda _method, _path: None
        left_there = stored(url)
        removed.append(len(before - left_there))
        assert whole_publication(url)
        assert {row.path for row in read_registry(home)} <= left_there
        counted = {name.removesuffix("result.parquet") for name in left_there if name.endswith("/result.parquet")}
        assert {f"{cell}predictions.parquet" for cell in counted} <= left_there
    assert removed == sorted(removed)
    assert removed[0] < removed[-1]
    machine("last")
    keep(Warehouse.at(url), runs=1)
    assert values(Warehouse.at(url), "select run_id from results.runs") == [(run_id,)]
    assert len([name for name in stored(url) if re.fullmatch(r"raw/.*\.parquet", name)]) == 3
    assert whole_publication(url)


def test_a_cell_of_which_something_was_removed_does_not_count(machine, monkeypatch) -> None:
    machine("one")
    home = Warehouse.at(f"memory://{uuid.uuid4().hex}")
    make_run(home, "sample:400", ("linear",))
    [cell] = home.folders("cells")
    [key, _] = cell.split("-", 1)
    assert home.results(key) == [cell]
    remove = Store.remove

    def remove_and_fail(store: Store, name: str) -> None:
        remove(store, name)
        raise StoreError("then it fails")

    monkeypatch.setattr(Store, "remove", remove_and_fail)
    with pytest.raises(StoreError):
        home.discard(home.cell(cell))
    assert home.results(key) == []
    assert home.folders("cells") == [cell]


@pytest.mark.long
def test_uploads_that_were_interrupted_go_once_they_are_old(url, machine, monkeypatch) -> None:
    machine("one")
    home = Warehouse.at(url)
    make_run(home, "sample:400", ("linear",))
    filesystem, path = fsspec.url_to_fs(url, skip_instance_cache=True)
    bucket, prefix, _ = filesystem.split_path(path)
    for key in (f"{prefix}/features/tracks_std/0123456789abcdef.parquet", f"{prefix}-of-others/x.parquet"):
        upload = filesystem.call_s3("create_multipart_upload", Bucket=bucket, Key=key)["UploadId"]
        filesystem.call_s3("upload_part", Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"x" * 1000)
    age = datetime.now(UTC) - next(at for _, at, _ in home.store.interrupted())  # type: ignore[union-attr]
    monkeypatch.setattr("tasks.upkeep.inventory.FOREIGN", age + timedelta(minutes=10))
    assert "temporary" not in {item.kind for item in keep(home, runs=1).going.values()}
    monkeypatch.setattr("tasks.upkeep.inventory.FOREIGN", age - timedelta(minutes=1))
    gone = {name: item.size for name, item in keep(home, runs=1).going.items() if item.kind == "temporary"}
    [(name, size)] = gone.items()
    assert name.startswith("features/tracks_std/0123456789abcdef.parquet?uploadId=")
    assert size == 1000
    assert [left["Key"] for left in filesystem.list_multipart_uploads(bucket)] == [f"{prefix}-of-others/x.parquet"]


def test_nothing_goes_while_a_flow_of_another_machine_is_in_progress(machine, monkeypatch) -> None:
    machine("one")
    monkeypatch.setattr(leases, "POLL_SECONDS", 0.01)
    home = Warehouse.at(f"memory://{uuid.uuid4().hex}")
    run_id = make_run(home, "sample:400", ("linear",), ended=False)
    assert home.store
    row = pq.read_table(home.table("runs", "started", run_id)).to_pylist()[0] | {"host": "elsewhere", "pid": 1}
    home.discard(home.table("runs", "started", run_id))
    home.write_rows(home.table("runs", "started", run_id), [row], STARTED)
    note = "use/flow-00000000.elsewhere.1"
    home.store.write(note, b"")
    with pytest.raises(UserError, match="flow of process 1 on elsewhere"):
        keep(home, runs=1)
    dry = keep(home, runs=1, dry_run=True)  # which needs nobody away
    assert take_inventory(home).runs[0].status == "running"

    monkeypatch.setattr(leases, "EXPIRES_AFTER", timedelta(0))  # it was killed
    before = home.sizes()
    assert keep(home, runs=1, grace_hours=12).kept == dry.kept == 1
    assert home.sizes().keys() == before.keys() - {note} | home.sizes().keys()
    assert home.store.names("use") == []
    assert take_inventory(home).runs[0].status == "killed"


def test_a_flow_waits_for_upkeep_of_another_machine(machine, monkeypatch) -> None:
    machine("one")
    monkeypatch.setattr(leases, "POLL_SECONDS", 0.01)
    home = Warehouse.at(f"memory://{uuid.uuid4().hex}")
    assert home.store
    note = "use/upkeep-00000000.elsewhere.1"
    home.store.write(note, b"")
    told = []

    def come_to_an_end() -> None:
        told.append("waiting")
        home.store.remove(note)  # type: ignore[union-attr]

    with home.in_use(come_to_an_end):
        assert told == ["waiting"]
        assert [name.split("-")[0] for name in home.store.names("use")] == ["flow"]
    home.store.write(note, b"")
    with home.in_use(lambda: pytest.fail("a reader need not wait"), reads_only=True):
        pass


@pytest.mark.alone
def test_upkeep_is_alone_however_many_begin_together(monkeypatch) -> None:
    monkeypatch.setattr(leases, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(leases, "RENEWED", 0.001)
    store = Store.at(f"memory://{uuid.uuid4().hex}")
    inside: list[str] = []
    seen: list[tuple[str, ...]] = []

    def work(by: Literal["flow", "upkeep"]) -> None:
        for _ in range(20):
            with leases.held(store, by):
                inside.append(by)
                seen.append(tuple(inside))
                time.sleep(0.002)
                seen.append(tuple(inside))
                inside.remove(by)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, by) for by in ("flow", "flow", "flow", "upkeep")]:
            done.result()
    assert ("upkeep",) in seen
    assert max(map(len, seen)) > 1
    assert {held for held in seen if "upkeep" in held} == {("upkeep",)}
    assert store.names("use") == []
