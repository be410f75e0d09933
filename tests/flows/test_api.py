from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import polars as pl
import pytest

from flows.api import listen
from tasks.api import MAX_BYTES, MAX_TRACKS, Prediction, Track
from tasks.errors import UserError
from tasks.predict_files import predict_file
from tasks.predictor import PREDICTED
from tests.conftest import many
from tests.flows.support import ROOT, clean_environment

NAMES = [name for name in Track.model_fields if name != "track_id"]


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client, list[str]]]:
    """A real process, a client of it and what it said until it listened."""
    command = [sys.executable, "-m", "flows.api", "--port", "0", *options]
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
    "no text": (b'{"tracks": "\xff"}', 400, "parsing"),
    "no json": (b'{"tracks": [{"energy": .5}]}', 422, "JSON decode error: Expecting value"),
    "deep": (b"[" * 100_000, 400, "parsing"),
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


def test_without_champions_it_says_what_to_do(tmp_path: Path) -> None:
    with serving("--warehouse", str(tmp_path)) as (process, client, said):
        assert "no model has been trained" in said[0]
        health = client.get("/healthz")
        assert (health.status_code, health.json()["status"]) == (503, "unavailable")
        assert "python -m flows.benchmark" in health.json()["problem"]
        answer = client.post("/predict", json=ask_for([{"energy": 1}]))
        assert answer.status_code == 503 and "python -m flows.benchmark" in answer.json()["detail"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
        assert "Traceback" not in process.stderr.read()


def test_where_it_cannot_listen() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        for host, number, said in (
            ("127.0.0.1", port, "in use"), ("127.0.0.1", 70_000, "65535"), ("no.invalid", 0, "no.invalid"),
        ):  # fmt: skip
            with pytest.raises(UserError, match=said):
                listen(host, number)
