"""A source URL's password and token reach the server it names, and nothing that is kept or shown."""

from __future__ import annotations

from pathlib import Path

import duckdb
import httpx
import pytest

from flows import benchmark, features, tune
from flows.options import parsed
from tasks.ingest.source_names import default_source
from tasks.storage.warehouse import Warehouse
from tests.helpers.commands import run
from tests.helpers.tracks import many
from tests.helpers.web import serving

SECRETS = ("pass-word", "to-ken")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (benchmark.COMMAND, []),
        (features.COMMAND, []),
        (tune.COMMAND, ["--task", "genre", "--model", "xgboost_tuned"]),
    ],
    ids=["benchmark", "features", "tune"],
)
def test_a_url_with_secrets_is_no_parameter_of_a_flow(command, words, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t?oken.csv").touch()
    monkeypatch.setenv("MUSIC_SOURCE", "another.csv")

    def source_of(source: str) -> str | None:
        return parsed(command.app(), [*words, "--source", source])[1]["source"]

    for source in ("https://host/t.csv?token=to-ken", "https://me:pass-word@host/t.csv"):
        assert source_of(source) is None
        assert default_source(None) == source
    for source in ("https://host/t.csv", "t?oken.csv", "sample:2000"):
        assert source_of(source) == source


@pytest.mark.long
@pytest.mark.parametrize("name", ["tracks.csv", "403"])
def test_the_command_keeps_no_secret_anywhere(name, environment) -> None:
    api, home = environment["PREFECT_API_URL"], Warehouse.at(environment["MUSIC_WAREHOUSE"])
    with serving() as web:
        web.files["tracks.csv"] = many(200).write_csv().encode()
        public = f"http://{web.address}/{name}"
        secret = f"http://me:{SECRETS[0]}@{web.address}/{name}?token={SECRETS[1]}"
        done = run(environment | {"PREFECT_LOGGING_LEVEL": "DEBUG"}, "--source", secret, flow="features")
        assert SECRETS[1] in web.asked[-1][0]
        assert web.asked[-1][1].startswith("Basic ")
    assert done.returncode == (1 if name == "403" else 0), done.stderr
    [newest] = httpx.post(f"{api}/flow_runs/filter", json={"sort": "START_TIME_DESC", "limit": 1}).json()
    assert newest["parameters"]["source"] is None
    query = {"flow_runs": {"id": {"any_": [newest["id"]]}}}
    logs = httpx.post(f"{api}/logs/filter", json={"logs": {"flow_run_id": {"any_": [newest["id"]]}}}).text
    kept = [httpx.post(f"{api}/{kind}/filter", json=query).text for kind in ("flow_runs", "task_runs", "artifacts")]
    kept += [logs, done.stdout, done.stderr]
    if name == "403":
        assert f"{public}: cannot be downloaded (the server answered 403)" in done.stderr
        assert f"{public}: cannot be downloaded (the server answered 403)" in logs
    else:
        kept.append(published(home))
        assert public in kept[-1]
    assert [secret for secret in SECRETS if any(secret in text for text in kept)] == []


def published(home: Warehouse) -> str:
    """Every row of every published table, as text."""
    with duckdb.connect(str(home.database), read_only=True) as connection:
        tables = connection.execute("select table_schema, table_name from information_schema.tables").fetchall()
        return "".join(str(connection.execute(f"from {schema}.{table}").fetchall()) for schema, table in tables)
