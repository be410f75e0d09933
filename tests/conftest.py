from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from tasks.compute.processes import Processes
from tasks.features.build import build_features
from tasks.features.registry import BuiltTable
from tasks.ingest import sample
from tasks.ingest.columns import EXPECTED
from tasks.ingest.read import ingest
from tasks.ingest.snapshots import Snapshot
from tasks.prediction import champions
from tasks.results.publish import publish
from tasks.storage.warehouse import Warehouse
from tasks.training.grid import plan_cells
from tasks.training.jobs import make_jobs
from tasks.training.runs import finish_run, outcome_of, start_run
from tasks.training.train import train_cell

TRACK = {
    "instance_id": "1",
    "artist_name": "An Artist",
    "track_name": "A Track",
    "popularity": "50",
    "acousticness": "0.1",
    "danceability": "0.2",
    "duration_ms": "200000",
    "energy": "0.3",
    "instrumentalness": "0.4",
    "key": "C#",
    "liveness": "0.5",
    "loudness": "-6.5",
    "mode": "Minor",
    "speechiness": "0.6",
    "tempo": "120.5",
    "obtained_date": "4-Apr",
    "valence": "0.7",
    "music_genre": "Rap",
}


def tracks(*changes: dict[str, str | None], **same: str | None) -> pl.DataFrame:
    """Rows like TRACK, each with changes; instance_id counts up unless given."""
    rows = [TRACK | {"instance_id": str(number + 1)} | same | change for number, change in enumerate(changes)]
    return pl.DataFrame(rows, schema=dict.fromkeys(rows[0], pl.String))


def many(n: int = 100, genres: tuple[str, ...] = ("Jazz", "Rap")) -> pl.DataFrame:
    """n varied valid rows over the genres: enough to split and train on."""
    frame = pl.concat(sample.generate(n, seed=1))
    return frame.with_columns(
        music_genre=pl.Series([genres[i % len(genres)] for i in range(frame.height)], dtype=pl.String)
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is long is slow, too: `-m "not slow"` is the loop of who changes a line."""
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse.at(tmp_path / "warehouse")


@pytest.fixture(scope="session")
def shared_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """A warehouse with a small generated sample, for tests that only read it or add cells to it."""
    return Warehouse.at(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="session")
def sample_snapshot(shared_warehouse: Warehouse) -> Snapshot:
    return ingest("sample:2000", {}, 0.05, shared_warehouse)


@pytest.fixture(scope="session")
def sample_tables(sample_snapshot: Snapshot, shared_warehouse: Warehouse) -> list[BuiltTable]:
    return build_features(sample_snapshot, "published", 20, shared_warehouse)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """A warehouse with a smoke run of cold_start on a generated sample, its champions chosen and published."""
    home = Warehouse.at(tmp_path_factory.mktemp("trained"))
    snapshot = ingest("sample:3000", {}, 0.05, home)
    tables = build_features(snapshot, "cold_start", 20, home)
    run = start_run(snapshot, "smoke", home)
    models = ["xgboost", "gradient_boosting", "logistic_regression", "svm", "multitask_tuned"]
    cells = plan_cells(["cold_start"], "smoke", models, ["all", "pca"], [42])
    outcomes = []
    with Processes(threads=1, timeout=300) as processes:
        for job in make_jobs(cells, tables, run.run_id, home, 1):
            ended = processes.run(train_cell, job, home.temporary("log"))
            outcomes.append(outcome_of(job, ended.status, result=job.result, error=ended.error))
    finish_run(run, "completed", outcomes, home)
    champions.choose(run.run_id, home, 1)
    publish(snapshot, tables, home)
    return home


@pytest.fixture(scope="session")
def real_file() -> Path:
    path = os.environ.get("MUSIC_SOURCE")
    if not path or not Path(path).exists():
        pytest.skip("needs the real raw file: set MUSIC_SOURCE to its path")
    return Path(path)


@pytest.fixture(scope="session")
def catalogues() -> Path:
    path = os.environ.get("MUSIC_CATALOGUES")
    if not path or not Path(path).is_dir():
        pytest.skip("needs other people's catalogues: set MUSIC_CATALOGUES to their folder")
    return Path(path)


@pytest.fixture(scope="session")
def prefect_server() -> object:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=240):
        yield


assert list(TRACK) == EXPECTED
