"""Frames of several libraries are written to the same file, which is gone when it was read."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.errors import InputError, UserError
from tasks.ingest.frames import as_source
from tasks.ingest.read import ingest

COLUMNS = {
    "artist_name": ["Ä", None, "Ä"],
    "energy": [0.1, None, 0.3],
    "key": [1, 2, 11],
    "mode": [True, False, True],
    "genres": [["a"], [], ["b", "c"]],
}
ARROW = pa.table(COLUMNS)
POLARS = pl.DataFrame(COLUMNS)
PANDAS = pd.DataFrame(COLUMNS)
SAME = {
    "polars": POLARS,
    "polars in chunks": pl.concat([POLARS[:1], POLARS[1:]], rechunk=False),
    "polars categories": POLARS.cast({"artist_name": pl.Categorical}),
    "pandas": PANDAS,
    "pandas categories": PANDAS.astype({"artist_name": "category"}),
    "pyarrow": ARROW,
    "pyarrow batches": pa.RecordBatchReader.from_batches(ARROW.schema, ARROW.to_batches()),
    "duckdb": duckdb.sql("from ARROW"),
}


@pytest.mark.parametrize("frame", SAME.values(), ids=SAME)
def test_the_same_content_is_the_same_file_whatever_holds_it(frame, warehouse) -> None:
    with as_source(ARROW, warehouse) as expected:
        content = Path(expected).read_bytes()
    with as_source(frame, warehouse) as source:
        assert Path(source).name == "frame"
        assert Path(source).read_bytes() == content
        assert pq.read_table(source).to_pydict() == COLUMNS
    assert list((warehouse.root / "tmp").iterdir()) == []


@pytest.mark.parametrize("source", ["sample:10", "https://host/t.csv", Path("t.csv")])
def test_a_path_or_url_stays_as_it_is(source, warehouse) -> None:
    with as_source(source, warehouse) as same:
        assert same == str(source)


@pytest.mark.parametrize("tracks", [[1], None, POLARS.lazy()], ids=["list", "nothing", "lazy"])
def test_what_is_no_frame_is_refused(tracks, warehouse) -> None:
    with pytest.raises(UserError, match=rf"^Tracks are a path.*; found: {type(tracks).__name__}\.$"):
        as_source(tracks, warehouse).__enter__()


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (pd.DataFrame([[1, 2]], columns=["energy", "energy"]), "Duplicate column names"),
        (pl.DataFrame(), "column"),
        (POLARS, "columns 'popularity', 'music_genre' are missing"),
    ],
    ids=["twice", "nothing", "no target"],
)
def test_a_frame_that_cannot_be_read_is_named_and_leaves_nothing(frame, reason, warehouse) -> None:
    with pytest.raises(InputError, match=rf"^frame: .*{reason}"), as_source(frame, warehouse) as source:
        ingest(source, {}, 0.05, warehouse)
    assert [file for file in (warehouse.root / "tmp").iterdir() if file.suffix != ".lock"] == []


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"energy": [0.5, "loud", None], "valence": [0.1, 0.2, 0.3]}),
        pl.DataFrame({"energy": pl.Series([0.5, "loud", None], dtype=pl.Object), "valence": [0.1, 0.2, 0.3]}),
    ],
    ids=["pandas", "polars"],
)
def test_a_column_of_several_types_is_read_as_its_texts(frame, warehouse) -> None:
    with as_source(frame, warehouse) as source:
        read = pl.read_parquet(source)
    assert read["energy"].to_list() == ["0.5", "loud", None]
    assert read["valence"].to_list() == [0.1, 0.2, 0.3]
