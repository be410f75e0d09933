from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from tasks.evaluation.metrics import digest_of_rows
from tasks.features.build import build_features
from tasks.features.registry import read_registry
from tasks.ingest.read import ingest
from tasks.results.publish import publish
from tasks.storage.warehouse import Warehouse
from tests.helpers.runs import make_run


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Warehouse:
    """A warehouse with a run of four cells, two of each task."""
    home = Warehouse.at(tmp_path_factory.mktemp("published"))
    make_run(home, "sample:400", ("linear", "xgboost", "logistic_regression"))
    return home


@pytest.fixture
def copied(home, tmp_path) -> Warehouse:
    """The same, to be changed."""
    shutil.copytree(home.root, tmp_path / "copied")
    return Warehouse.at(tmp_path / "copied")


def published(home: Warehouse, table: str) -> pl.DataFrame:
    with duckdb.connect(str(home.database), read_only=True) as connection:
        return connection.sql(f"from results.{table} order by all").pl()


def published_after(change: Callable[[Path], None], file: str, home: Warehouse) -> None:
    """Publish again, this file of each cell changed."""
    for path in (home.root / "cells").glob(f"*/{file}"):
        change(path)
    publish(ingest("sample:400", {}, 0.5, home), read_registry(home), home)


def without_rows(path: Path) -> None:
    """Zero all of a Parquet file but what says which columns and how many rows it has."""
    content = path.read_bytes()
    footer = int.from_bytes(content[-8:-4], "little") + 8
    path.write_bytes(content[:4] + bytes(len(content) - 4 - footer) + content[-footer:])


def as_stored_before(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop(["test_rows", "popularity_errors"]), path)


def with_members_as_stored_before(path: Path) -> None:
    """An ensemble was of one task, which its members did not name."""
    stored = pq.read_table(path)
    members = pa.array([[{"name": "knn", "weight": 1.0, "out_of_fold": 0.5}]])
    assert "task" in {field.name for field in stored.schema.field("members").type.value_type}
    pq.write_table(stored.set_column(stored.schema.get_field_index("members"), "members", members), path)


def test_cells_are_of_the_test_rows_that_they_predicted(home) -> None:
    ids = published(home, "predictions").filter(split="test", model="linear")["track_id"]
    assert published(home, "cells")["test_rows"].to_list() == [digest_of_rows(ids.to_numpy())] * 4


def test_popularity_errors_are_those_of_the_predictions(home) -> None:
    error = pl.col("y_pred") - pl.col("y_true")
    expected = (
        published(home, "predictions")
        .filter(task="popularity")
        .group_by("model", "split", bucket="true_genre")
        .agg(n=pl.len().cast(pl.Int64), rmse=(error**2).mean().sqrt(), mae=error.abs().mean(), bias=error.mean())
        .sort("model", "split", "bucket")
    )
    found = published(home, "popularity_errors")
    assert found["model"].unique().sort().to_list() == ["linear", "xgboost"]
    of_genres = found.filter(bucket_by="genre").select(expected.columns).sort("model", "split", "bucket")
    assert_frame_equal(of_genres, expected)
    bands = found.filter(bucket_by="popularity")
    assert bands.group_by("model").agg(pl.col("n").sum())["n"].to_list() == [120] * 2
    assert found["bucket"].is_in(["0 to 9", "40 to 49"]).any()


@pytest.mark.slow
def test_publication_reads_no_predicted_row(home, copied) -> None:
    tables = ("figures", "comparisons", "popularity_errors", "leaderboard")
    published_after(without_rows, "predictions.parquet", copied)
    with pytest.raises(duckdb.Error):
        published(copied, "predictions")
    assert published(home, "comparisons").height > 0
    assert all(published(copied, name).equals(published(home, name)) for name in tables)


@pytest.mark.slow
def test_results_of_before_have_figures_but_nothing_that_they_are_paired_with(home, copied) -> None:
    published_after(as_stored_before, "result.parquet", copied)
    figures = [published(each, "figures").drop("test_rows") for each in (home, copied)]
    assert figures[0].equals(figures[1])
    assert published(copied, "comparisons").height == 0
    assert published(copied, "popularity_errors").height == 0


@pytest.mark.slow
def test_members_of_before_are_of_their_cells_task(copied) -> None:
    published_after(with_members_as_stored_before, "result.parquet", copied)
    cells, members = (published(copied, name) for name in ("cells", "ensemble_members"))
    names = ["task", "model", "feature_set"]
    assert_frame_equal(members.select(names), cells.select(names))
    assert set(members["member"]) == {"knn"}


@pytest.mark.long
def test_tables_of_groups_stay_and_are_empty_where_nothing_needs_them(warehouse) -> None:
    names = ("track_artists", "track_links", "artist_groups", "track_groups")
    snapshot = ingest("sample:400", {}, 0.5, warehouse)

    def shown(*protocols: str) -> dict[str, tuple[list[tuple[str, str]], int]]:
        publish(
            snapshot, [row for name in protocols for row in build_features(snapshot, name, 5, warehouse)], warehouse
        )
        with duckdb.connect(str(warehouse.database), read_only=True) as connection:
            return {
                name: (
                    [row[:2] for row in connection.execute(f"describe features.{name}").fetchall()],
                    connection.execute(f"select count(*) from features.{name}").fetchall()[0][0],
                )
                for name in names
            }

    first, with_groups, after = shown("published"), shown("published", "cold_start"), shown("published")
    assert with_groups["track_groups"][1] > 300
    assert first == after == {name: (columns, 0) for name, (columns, _) in with_groups.items()}
