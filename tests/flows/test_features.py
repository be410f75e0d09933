from __future__ import annotations

import duckdb
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import ArtifactSort

from flows.features import features
from tasks import summary
from tasks.warehouse import Warehouse


def test_features_are_built_and_published_without_training(prefect_server, tmp_path, capsys) -> None:
    home = Warehouse.at(tmp_path)
    tables = features(source="sample:1000", warehouse=str(tmp_path))
    with duckdb.connect(str(home.database), read_only=True) as connection:
        assert connection.execute("select count(*) from features.tracks_std").fetchall() == [(1000,)]
        assert connection.execute("select count(*) from results.leaderboard").fetchall() == [(0,)]
        assert connection.execute("select count(*) from results.predictions").fetchall() == [(0,)]
    with get_client(sync_client=True) as client:
        posted = client.read_artifacts(sort=ArtifactSort.CREATED_DESC)
    assert "| **tracks kept** | **1,000** |" in next(one.data for one in posted if one.key == "data-quality-sample")
    summary.print_features(tables, home)
    assert "features.tracks_pca" in capsys.readouterr().out
