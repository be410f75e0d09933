"""Targets that do not vary: said, without the figures that mean nothing, and no champion by them."""

from __future__ import annotations

import duckdb
import polars as pl
import pytest

from tasks.features import targets
from tasks.features.build import build_features
from tasks.ingest.read import ingest
from tasks.prediction import champions
from tasks.reporting.report import write_report
from tasks.storage.warehouse import Warehouse
from tests.helpers.amounts import mostly_long
from tests.helpers.runs import make_run
from tests.helpers.tracks import many

UNDEFINED = ", so that r2 and spearman are not defined there (NULL)"
NONE = "; no champion is chosen for popularity"


def prepared(popularity: pl.Expr | str, home: Warehouse) -> tuple[str, list[str]]:
    """A source whose popularity may depend on the split (column `split`), and what is said of its targets."""
    frame = many(400).with_columns(instance_id=pl.int_range(pl.len()).cast(pl.String))
    source = str(home.root / "tracks.csv")
    frame.write_csv(source)
    built = build_features(ingest(source, {}, 0.0, home), "label_free", 20, home)
    [path] = [row.path for row in built if row.table_name == "features.split_assignment"]
    split = pl.read_parquet(home.root / path).select(pl.col("track_id").cast(pl.String), "split")
    varied = (pl.int_range(pl.len()) % 90).cast(pl.String)
    frame = frame.join(split, left_on="instance_id", right_on="track_id", maintain_order="left")
    frame = frame.with_columns(varied=varied).with_columns(popularity=popularity).drop("split", "varied")
    frame.write_csv(source)
    return source, targets.notes(build_features(ingest(source, {}, 0.0, home), "label_free", 20, home), home)


CONSTANT_IN = {
    "everywhere": (["train", "val", "test"], f"popularity is 50 in all rows{UNDEFINED}{NONE}"),
    "test": (["test"], f"popularity is 50 in all test rows{UNDEFINED}"),
    "val": (["val"], f"popularity is 50 in all validation rows{UNDEFINED}{NONE}"),
    "train": (["train"], f"popularity is 50 in all training rows{NONE}"),
    "nowhere": ([], None),
}


@pytest.mark.slow
@pytest.mark.parametrize("where", mostly_long(CONSTANT_IN, "everywhere", "test"))
def test_a_constant_popularity(where, warehouse) -> None:
    constant, said = CONSTANT_IN[where]
    popularity = pl.when(pl.col("split").is_in(constant)).then(pl.lit("50")).otherwise("varied")
    source, notes = prepared(popularity, warehouse)
    assert notes == ([f"label_free: {said}"] if said else [])
    run = make_run(warehouse, source, ["linear", "xgboost", "knn"], protocols=["label_free"])
    lines = champions.choose(run, warehouse, 1)
    chosen = {one.candidate.task for one in champions.current(warehouse)}
    assert chosen == ({"genre"} if NONE in str(said) else {"genre", "popularity"})
    assert any(line.startswith("No champion is chosen for popularity: ") for line in lines) == (NONE in str(said))
    with duckdb.connect(str(warehouse.database), read_only=True) as connection:
        rows = connection.execute(
            "select split, metric, value is null, ci_low is null from results.metrics "
            "where task = 'popularity' and slice = 'all' and model = 'linear'"
        ).fetchall()
    undefined = {(split, metric) for split, metric, is_null, _ in rows if is_null}
    expected = {(split, metric) for split in ("val", "test") if split in constant for metric in ("r2", "spearman")}
    if constant == ["train"]:  # what is learnt is a constant
        expected |= {("val", "spearman"), ("test", "spearman")}
    assert undefined == expected
    assert {(split, metric) for split, metric, _, is_null in rows if is_null} == expected
    assert write_report(run, warehouse, None).exists()


@pytest.mark.slow
def test_two_values_are_a_target(warehouse) -> None:
    popularity = pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("10")).otherwise(pl.lit("90"))
    assert prepared(popularity, warehouse)[1] == []


@pytest.mark.slow
def test_one_genre_in_a_split_is_said(warehouse) -> None:
    built = build_features(ingest("sample:2000", {}, 0.05, warehouse), "label_free", 20, warehouse)
    [row] = [row for row in built if row.table_name == "features.tracks_std"]
    path = warehouse.root / row.path
    frame = pl.read_parquet(path)
    genre = pl.when(pl.col("split") == "val").then(pl.lit("Jazz")).otherwise("music_genre")
    frame.with_columns(music_genre=genre).write_parquet(path)
    assert targets.notes([row], warehouse) == [
        "label_free: genre is Jazz in all validation rows; no champion is chosen for genre"
    ]
