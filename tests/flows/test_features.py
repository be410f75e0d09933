from __future__ import annotations

import re
from datetime import UTC, datetime

import duckdb
import polars as pl
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import ArtifactSort

from flows.deployed import features
from tasks.errors import UserError
from tasks.ingest import sample
from tasks.reporting import terminal
from tasks.storage.warehouse import Warehouse
from tests.helpers.amounts import amount
from tests.helpers.commands import clean_environment, refusal, run


@pytest.mark.parametrize(
    ("options", "variables", "reason"),
    [
        (["--statistics", "kept"], {}, "--statistics kept needs --append-to"),
        (["--append-to", "nope"], {}, "has no snapshot 'nope'"),
        (["--append-to", "latest"], {}, "nothing is published there yet"),
        (["--source", "snapshot:latest", "--append-to", "latest"], {}, "is a snapshot already"),
        ([], {"MUSIC_MEMORY_LIMIT": "abc"}, "$MUSIC_MEMORY_LIMIT is 'abc'; it must be a size"),
        ([], {"MUSIC_MEMORY_LIMIT": "1KB"}, "$MUSIC_MEMORY_LIMIT is '1KB'; at least 250MiB are needed"),
    ],
)
def test_what_can_be_refused_at_once_is(options, variables, reason, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("MUSIC_SOURCE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert reason in refusal(*options, "--warehouse", str(tmp_path), flow="features")


@pytest.mark.slow
def test_what_is_refused_at_once_is_told_in_one_line(tmp_path) -> None:
    done = run(clean_environment(), "--statistics", "kept", "--warehouse", str(tmp_path), flow="features")
    assert done.returncode == 1
    assert done.stderr.startswith("--statistics kept needs --append-to")
    assert done.stderr.count("\n") == 1


def test_features_are_built_and_published_without_training(prefect_server, tmp_path, capsys) -> None:
    home = Warehouse.at(tmp_path)
    began = datetime.now(UTC)
    features(source="sample:1000", warehouse=str(tmp_path))
    with duckdb.connect(str(home.database), read_only=True) as connection:
        assert connection.execute("select count(*) from features.tracks_std").fetchall() == [(1000,)]
        assert connection.execute("select count(*) from results.leaderboard").fetchall() == [(0,)]
        assert connection.execute("select count(*) from results.predictions").fetchall() == [(0,)]
    with get_client(sync_client=True) as client:
        posted = client.read_artifacts(sort=ArtifactSort.CREATED_DESC)
    assert "| **tracks kept** | **1,000** |" in next(one.data for one in posted if one.key == "data-quality-sample")
    base, more = tmp_path / "base.csv", tmp_path / "more.csv"
    pl.concat(sample.generate(1000)).write_csv(base)
    pl.concat(sample.generate(50, seed=1)).with_columns(instance_id=pl.int_range(50).cast(pl.String)).write_csv(more)
    features(source=str(base), warehouse=str(tmp_path))
    options = {"source": str(more), "warehouse": str(tmp_path), "append_to": "latest"}
    with pytest.raises(UserError, match="needs --append-to"):
        features(**options | {"append_to": None, "statistics": "kept"})
    for statistics in amount(("kept",), ("relearned", "kept")):
        tables = features(**options, statistics=statistics)
        with duckdb.connect(str(home.database), read_only=True) as connection:
            assert connection.execute("select count(*) from features.tracks_std").fetchall() == [(1050,)]
            published = connection.execute("select source, statistics from raw.snapshots where is_published")
            assert published.fetchall() == [("base.csv + more.csv", statistics)]
    with get_client(sync_client=True) as client:
        posted = client.read_artifacts(sort=ArtifactSort.CREATED_DESC)
    assert "`base.csv + more.csv` compared with the snapshot before it" in next(
        one.data for one in posted if one.key == "drift"
    )
    terminal.print_features(tables, home, began)
    assert re.search(r"staging\.stg_tracks .* built", capsys.readouterr().out)
    terminal.print_features(tables, home, datetime.now(UTC))
    assert re.search(r"features\.tracks_pca .* reused", capsys.readouterr().out)
