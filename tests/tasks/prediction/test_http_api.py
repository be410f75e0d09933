from __future__ import annotations

import asyncio
import re
from unittest.mock import Mock

import httpx

from tasks.prediction.http_api import make_app


def get(path: str) -> httpx.Response:
    """The answer of the application in this process, for pages that need no model."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(make_app(Mock(predictor=None, problem=None)))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get(path)

    return asyncio.run(ask())


def test_the_root_leads_to_the_docs() -> None:
    answer = get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
    assert get(answer.headers["location"]).status_code == 200


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
