from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from unittest.mock import Mock

import httpx
import polars as pl
import psutil
import pyarrow as pa
import pytest

from flows.api import listen
from tasks.errors import UserError
from tasks.prediction.batch import predict_file
from tasks.prediction.connections import CLIENT_SECONDS, MOST
from tasks.prediction.http_api import MAX_BYTES, MAX_TRACKS, MAX_WAITING, Prediction, Track, make_app
from tasks.prediction.predictor import PREDICTED
from tests.helpers.amounts import amount
from tests.helpers.commands import ROOT, clean_environment, until
from tests.helpers.tracks import many

pytestmark = pytest.mark.alone
HEALTH_SECONDS = 5.0  # a second where the machine is this test's alone
NAMES = [name for name in Track.model_fields if name != "track_id"]


@contextmanager
def serving(*options: str, files: int | None = None) -> Iterator[tuple[subprocess.Popen[str], httpx.Client, list[str]]]:
    """A real process, a client of it and what it said until it listened. Args: files: that it may have open."""
    command = [sys.executable, "-m", "flows.api", "--port", "0", *options]
    if files:
        command = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *command]
    with subprocess.Popen(command, cwd=ROOT, env=clean_environment(), stderr=subprocess.PIPE, text=True) as process:
        try:
            said: list[str] = []
            while not (found := re.search(r"http://[\d.]+:\d+", said[-1] if said else "")):
                said.append(process.stderr.readline())
                assert said[-1], said
            with httpx.Client(base_url=found[0], timeout=60.0, trust_env=False) as client:
                yield process, client, said
        finally:
            process.kill()


@pytest.fixture(scope="module")
def api(trained) -> Iterator[httpx.Client]:
    with serving("--warehouse", str(trained.root)) as (process, client, said):
        assert "by multitask_tuned" in said[0] or "by xgboost" in said[0], said
        yield client
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def asked(frame: pl.DataFrame) -> list[dict[str, object]]:
    return frame.select(pl.col("instance_id").alias("track_id"), *NAMES).to_dicts()


def ask_for(tracks: list[dict[str, object]]) -> dict[str, object]:
    return {"tracks": tracks, "min_features": 1}


def predict(api: httpx.Client, tracks: list[dict[str, object]]) -> list[dict[str, object]]:
    answer = api.post("/predict", json=ask_for(tracks))
    assert answer.status_code == 200, answer.text
    assert "GENERATED DATA" in answer.json()["warning"]
    return answer.json()["predictions"]


def errors(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {".".join(map(str, one["loc"][1:])): one["msg"] for one in answer.json()["detail"]}


@pytest.fixture(scope="module")
def expected(trained, tmp_path_factory) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Tracks, and what flows.predict writes of them."""
    folder = tmp_path_factory.mktemp("tracks")
    frame = many(300).with_columns(energy=pl.when(pl.int_range(pl.len()) % 7 == 0).then(pl.lit("")).otherwise("energy"))
    frame.write_csv(folder / "t.csv")
    report = predict_file(str(folder / "t.csv"), str(folder / "p.parquet"), trained)
    return asked(frame), pl.read_parquet(report.out).to_dicts()


def test_the_same_answers_as_for_a_file(api, expected) -> None:
    """To the last bit; numbers as text or as numbers, in order, named as asked."""
    tracks, wanted = expected
    assert predict(api, tracks) == wanted
    numbers = [{name: _number(value) for name, value in track.items()} for track in tracks]
    assert {type(value) for value in numbers[0].values()} == {float, str}
    assert predict(api, numbers) == wanted
    [named, unnamed] = predict(api, [{"track_id": 0, "energy": 0.5}, {"energy": 0.5, "tempo": None, "key": "?"}])
    assert (named["track_id"], unnamed["track_id"], unnamed["row_number"]) == (0, 2, 2)
    assert named["n_filled"] == unnamed["n_filled"] == 11
    assert list(Prediction.model_fields) == PREDICTED.names


def _number(text: object) -> object:
    try:
        return json.loads(str(text))
    except json.JSONDecodeError:
        return text


def test_clients_at_once_each_get_their_own(api, expected) -> None:
    tracks, wanted = expected
    parts = [(start, start + size) for start, size in zip(range(0, 240, 10), [1, 2, 9, 30] * 6, strict=True)]

    def ask(part: tuple[int, int]) -> bool:
        first, last = part
        if first % 40 == 10:
            given = [*tracks[first:last], {"energy": "loud"}]
            return list(errors(api.post("/predict", json=ask_for(given)))) == [f"tracks.{last - first}.energy"]
        own = [row | {"row_number": at} for at, row in enumerate(wanted[first:last], start=1)]
        if first % 20 == 0:
            own = [row | {"track_id": row["row_number"]} for row in own]
            return predict(api, [track | {"track_id": None} for track in tracks[first:last]]) == own
        return predict(api, tracks[first:last]) == own

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(ask, parts * 3))


def test_what_is_refused_is_named_by_field(api) -> None:
    given = [{"energy": 0.5}, {"energy": "loud", "tempo": -5, "mode": 2}, {}, {"key": "H", "track_id": 1.5}]
    found = errors(api.post("/predict", json=ask_for(given)))
    assert list(found) == ["tracks.1.energy", "tracks.1.mode", "tracks.1.tempo", "tracks.2", "tracks.3.track_id",
                           "tracks.3.key"]  # fmt: skip
    assert found["tracks.1.tempo"].startswith("not a positive number: '-5'. Allowed: beats per minute above 0")
    assert found["tracks.2"].startswith("none of the 12 audio features")
    found = errors(api.post("/predict", json={"tracks": [{"enrgy": 1, "tempo": True, "key": ["C"]}], "model": "x"}))
    assert sorted(found) == ["model", "tracks.0.enrgy", "tracks.0.key", "tracks.0.tempo"]
    assert "Known: track_id, acousticness" in found["tracks.0.enrgy"]
    many_bad = errors(api.post("/predict", json=ask_for([{"energy": "?"}] + [{"energy": "x"}] * 120)))
    assert len(many_bad) == 101 and many_bad[""] == "21 more"


BODIES = {
    "nan": (b'{"min_features": 1, "tracks": [{"energy": NaN, "loudness": Infinity}]}', 422, "finite number: 'inf'"),
    "half a pair": (b'{"tracks": [{"\\ud800": 1, "energy": "\\ud800"}]}', 422, "unicode"),
    "huge": (
        b'{"min_features": 1, "tracks": [{"energy": 1' + b"0" * 300 + b', "track_id": 1' + b"0" * 300 + b"}]}",
        422,
        "number",
    ),
    "huger": (b'{"tracks": [{"energy": 1' + b"0" * 9_000 + b"}]}", 422, "at most 60 letters"),
    "no text": (b'{"tracks": "\xff"}', 422, "JSON decode error: not UTF-8"),
    "UTF-16": ('{"tracks": []}'.encode("utf-16"), 422, "not UTF-8"),
    "no json": (b'{"tracks": [{"energy": .5}]}', 422, "JSON decode error: Expecting value"),
    "deep": (b"[" * 100_000, 422, "nested too deeply"),
    "twice": (
        b'{"tracks": [{"energy": 1, "tempo": 5, "\\u0065nergy": 1}]}',
        422,
        '"energy"],"msg":"given more than once',
    ),
    "all twice": (b'{"tracks": [], "tracks": [{"energy": 1}]}', 422, '"tracks"],"msg":"given more than once'),
    "grouped": (b'{"min_features": 1, "tracks": [{"energy": "1_000"}]}', 422, "not a finite number: '1_000'"),
    "grouped key": (
        b'{"min_features": 1, "tracks": [{"energy": 1, "key": "1_1", "tempo": "0_0"}]}',
        422,
        "not a key name",
    ),
    "no object": (b'{"tracks": [1, null]}', 422, "tracks"),
    "none": (b'{"tracks": []}', 422, "at least 1"),
    "too many": (json.dumps({"tracks": [{"energy": 1}] * (MAX_TRACKS + 1)}).encode(), 422, "At most 1,000 tracks"),
    "too large": (b'{"tracks": [' + b" " * MAX_BYTES, 413, "1,048,576 bytes"),
    "sql": (b'{"min_features": 1, "tracks": [{"key": "\'; drop table raw.tracks; --"}]}', 422, "not a key name"),
}


@pytest.mark.parametrize("name", BODIES)
def test_no_body_is_an_error_of_the_server(name, api) -> None:
    body, status, said = BODIES[name]
    answer = api.post("/predict", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, said in answer.text) == (status, True), answer.text
    assert predict(api, [{"energy": 0.5}])


def test_what_is_not_given_and_what_was_taken_is_told(api, expected) -> None:
    tracks, wanted = expected
    some = tracks[:5]
    answer = api.post("/predict", json={"tracks": [{"energy": 0.5, "tempo": 90, "key": "NA", "mode": None}]})
    [said] = errors(answer).values()
    assert said.startswith("2 of the 12 audio features are given; 6 are needed. Not given by any track: acousticness")
    renamed = [{name.title().replace("_", "-"): value for name, value in track.items()} for track in some]
    answer = api.post("/predict", json={"tracks": renamed}).json()
    assert [row["popularity"] for row in answer["predictions"]] == [row["popularity"] for row in wanted[:5]]
    assert "'Duration-Ms' for duration_ms" in answer["warning"]
    absent = [{name: value for name, value in track.items() if name != "valence"} for track in some]
    assert "no track has, filled for all: valence" in api.post("/predict", json={"tracks": absent}).json()["warning"]
    percent = [track | {"energy": 68, "mode": True} for track in some]
    warning = api.post("/predict", json={"tracks": percent}).json()["warning"]
    assert "energy (68 to 68; 5 of 5 values): expected 0 to 1; likely percent" in warning
    assert api.post("/predict", json={"tracks": [track | {"Energy": 1} for track in some]}).status_code == 422


HALVES = {
    "nothing": b"",
    "half a head": b"POST /predict HTTP/1.1\r\nHost: here\r\nX-",
    "half a body": b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 99\r\n\r\n{",
    "a second one begun": b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\nG",
    "answers not taken": b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: here\r\n\r\n" * 20,
}


@contextmanager
def loitering(address: httpx.URL, n: int) -> Iterator[list[socket.socket]]:
    """Connections that keep a server waiting, each kind of them, for as long as it waits."""
    with ExitStack() as stack:
        made = []
        for number in range(n):
            made.append(stack.enter_context(socket.socket()))
            made[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            made[-1].connect((address.host, address.port))
            made[-1].setblocking(False)
            with suppress(OSError):  # one that was let go already; one that takes no more
                made[-1].send([*HALVES.values()][number % len(HALVES)])
        yield made


def held(address: httpx.URL) -> int:
    """The connections that a server's process has."""
    found = [one for one in psutil.net_connections("tcp") if one.laddr.port == address.port and one.pid]
    return sum(one.status != psutil.CONN_LISTEN for one in found)


@pytest.mark.long
def test_clients_that_keep_it_waiting_keep_nobody_out(api) -> None:
    """500 of them, beside others that are answered; none stays for longer than its time."""

    def slowest_health(times: int) -> float:
        with httpx.Client(base_url=api.base_url, timeout=30.0, trust_env=False) as other:
            answers = [other.get("/healthz", headers={"Connection": "close"}) for _ in range(times)]
        assert {answer.status_code for answer in answers} == {200}
        return max(answer.elapsed.total_seconds() for answer in answers)

    busy = threading.Event()
    tracks = [{"energy": 0.5, "tempo": 100 + number / 10} for number in range(MAX_TRACKS)]

    def ask() -> int:
        asked = 0
        while not busy.is_set() or not asked:
            assert len(predict(api, tracks)) == MAX_TRACKS
            asked += 1
        return asked

    with ThreadPoolExecutor(3) as pool, loitering(api.base_url, 500):
        try:
            asking = [pool.submit(ask) for _ in range(3)]
            assert slowest_health(20) < HEALTH_SECONDS
            assert held(api.base_url) <= MOST
            assert slowest_health(20) < HEALTH_SECONDS
        finally:
            busy.set()
        assert all(future.result() for future in asking)
        until(lambda: held(api.base_url) == 0, seconds=CLIENT_SECONDS + 20, every=0.5)


@pytest.mark.slow
def test_more_connections_than_files_do_not_end_it(trained) -> None:
    with serving("--warehouse", str(trained.root), files=128) as (process, client, _):
        for _ in range(amount(1, 5)):  # one round in ten ran out of files when all were accepted at once
            with loitering(client.base_url, 400):
                assert client.get("/healthz").status_code == 200
                assert predict(client, [{"energy": 0.5}])
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert "Traceback" not in process.stderr.read()


@pytest.mark.slow
def test_more_requests_than_can_wait_are_told_so_and_health_is_answered() -> None:
    """In this process: as many as wait at once are held back, which no real model is slow enough for."""
    released = threading.Event()
    service = Mock(predictor=None, problem=None)
    service.predict.side_effect = lambda _: released.wait(60) and pa.table({"is_generated_model": [True]})

    async def ask() -> list[int]:
        transport = httpx.ASGITransport(make_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            body = ask_for([{"energy": 0.5}])
            waiting = [asyncio.create_task(client.post("/predict", json=body)) for _ in range(MAX_WAITING)]
            await asyncio.sleep(2.0)  # they are let in within milliseconds
            refused, health = await client.post("/predict", json=body), await client.get("/healthz")
            assert "200 requests are waiting" in refused.json()["detail"]
            released.set()
            answers = await asyncio.gather(*waiting)
            again = await client.post("/predict", json=body)
        return [refused.status_code, health.status_code, *{one.status_code for one in answers}, again.status_code]

    assert asyncio.run(ask()) == [503, 503, 200, 200]


def test_health_and_docs_without_another_server(api) -> None:
    health = api.get("/healthz").json()
    assert health["status"] == "ok" and health["problem"] is None and health["missing_tasks"] == []
    assert {one["task"] for one in health["champions"]} == {"genre", "popularity"}
    page = api.get("/docs").text
    links = re.findall(r"""(?:src|href)="([^"]+)"|url: '([^']+)'""", page)
    assert len(links) >= 4
    for link in {first or second for first, second in links}:
        assert link.startswith("/") and api.get(link).status_code == 200
    assert '"validatorUrl": null' in page
    schema = api.get("/openapi.json").json()
    assert set(schema["paths"]) == {"/predict", "/healthz"}
    assert set(NAMES) < set(schema["components"]["schemas"]["Track"]["properties"])


@pytest.mark.slow
def test_without_champions_it_says_what_to_do(tmp_path: Path) -> None:
    with serving("--warehouse", str(tmp_path)) as (process, client, said):
        assert "No model has been trained" in said[0]
        health = client.get("/healthz")
        assert (health.status_code, health.json()["status"]) == (503, "unavailable")
        assert "python -m flows.benchmark" in health.json()["problem"] and str(tmp_path) not in health.text
        answer = client.post("/predict", json=ask_for([{"energy": 1}]))
        assert answer.status_code == 503 and "python -m flows.benchmark" in answer.json()["detail"]
        assert str(tmp_path) not in answer.text
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
        assert "Traceback" not in process.stderr.read()


def test_where_it_cannot_listen() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        for host, number, said in (
            ("127.0.0.1", port, "in use"), ("no.invalid", 0, "no.invalid"),
        ):  # fmt: skip
            with pytest.raises(UserError, match=said):
                listen(host, number)
