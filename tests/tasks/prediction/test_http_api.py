from __future__ import annotations

import asyncio
import json
import re
from typing import Any
from unittest.mock import Mock

import httpx
import numpy as np
import pyarrow as pa

from tasks.prediction.http_api import make_app


def answer(method: str, path: str, body: object = None, predict: Any = None) -> httpx.Response:
    """The answer of the application in this process. Args: predict: in place of the service's."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(make_app(Mock(predictor=None, problem=None, predict=predict)))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            kind = {"Content-Type": "application/json"}
            return await client.request(method, path, content=json.dumps(body), headers=kind)

    return asyncio.run(ask())


def get(path: str) -> httpx.Response:
    return answer("GET", path)


def test_the_root_leads_to_the_docs() -> None:
    found = get("/")
    assert (found.status_code, found.headers["location"]) == (307, "/docs")
    assert get(found.headers["location"]).status_code == 200


def test_every_operation_has_a_name_and_a_description_of_one_sentence() -> None:
    paths = get("/openapi.json").json()["paths"]
    operations = [operation for path in paths.values() for operation in path.values()]
    assert [operation["summary"] for operation in operations] == [
        "Predict genre and popularity",
        "Show the models in use",
    ]
    for operation in operations:
        assert re.fullmatch(r"[A-Z][^.\n]+\.", operation["description"])


def test_the_schemas_are_in_the_docs_but_folded() -> None:
    assert '"defaultModelsExpandDepth": 0' in get("/docs").text


def test_every_track_may_spell_names_in_its_own_way() -> None:
    seen: list[dict[str, object]] = []

    def predict(rows: list[dict[str, object]]) -> pa.Table:
        seen.extend(rows)
        return pa.table({"popularity": [np.nan, np.inf, 50.0], "is_generated_model": [False] * 3})

    tracks = [
        {"Energy": 0.5, "danceability": 0.1, "Key": "C"},
        {"ENERGY": "0.6", "valence": 1, "loud-ness": -6},
        {"energy": 0.7, "\ud800mode": True, "tempo": 400},
    ]
    found = answer("POST", "/predict", {"tracks": tracks, "min_features": 1}, predict)
    assert [row["energy"] for row in seen] == [0.5, "0.6", 0.7]
    assert (seen[0]["key"], seen[1]["loudness"], seen[2]["mode"]) == ("C", -6, "True")
    assert [row["popularity"] for row in found.json()["predictions"]] == [None, None, 50.0]  # JSON has no NaN
    taken = "Names taken: 'Energy' for energy, 'Key' for key, 'ENERGY' for energy, 'loud-ness' for loudness, "
    assert found.json()["warning"].startswith(taken + r"'\ud800mode' for mode.")
    assert "units: tempo (400 to 400; 1 of 1 values): expected 20 to 300" in found.json()["warning"]
