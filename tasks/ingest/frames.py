"""Frames as sources: tracks in memory are written to a temporary Parquet file, which is read like any other."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import InputError, UserError
from tasks.storage.warehouse import Warehouse

LABEL = "frame"  # the source's name in messages and tables; the snapshot is named by the content


@contextmanager
def as_source(tracks: Any, warehouse: Warehouse) -> Iterator[str]:
    """Yields the source of tracks as text: a path or URL as it is, a frame as a file that is removed afterwards.

    Args: tracks: a path or URL, or an object with the Arrow PyCapsule interface, such as a frame of polars, of pandas
        (2.2 or newer) or of pyarrow, or a relation of DuckDB.

    Raises: UserError: it is neither. InputError: the frame cannot be read as an Arrow table, or not written to Parquet.
    """
    if isinstance(tracks, str | os.PathLike):
        yield os.fsdecode(tracks)
        return
    if not hasattr(tracks, "__arrow_c_stream__"):
        raise UserError(
            f"Tracks are a path, a URL or a frame with the Arrow interface (polars, pandas 2.2 or newer, pyarrow, "
            f"DuckDB); found: {type(tracks).__name__}."
        )
    folder = warehouse.temporary(LABEL)
    folder.mkdir()
    try:
        _write(tracks, folder / LABEL)
        yield str(folder / LABEL)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(frame: Any, path: Path) -> None:
    """Writes a frame to a file whose bytes depend on its columns and values, not on the library that holds them."""
    try:
        plain = pl.DataFrame(_table(frame)).cast({cs.categorical() | cs.enum(): pl.String})
        pq.write_table(plain.to_arrow(), path, compression="zstd", store_schema=False)
    except (pa.ArrowException, pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise InputError(f"{LABEL}: cannot be read as an Arrow table ({error}).") from error


def _table(frame: Any) -> pa.Table:
    """Returns a frame as an Arrow table. A column of Python objects of several types is read as their texts."""
    of_objects = isinstance(frame, pl.DataFrame) and pl.Object in frame.dtypes  # Arrow would see their addresses
    try:
        if not of_objects:
            return pa.table(frame)
    except pa.ArrowException:
        if not hasattr(frame, "columns") or not hasattr(frame, "__getitem__"):
            raise
    return pa.table({str(name): _column(list(frame[name])) for name in frame.columns})


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values, from_pandas=True)
    except pa.ArrowException:
        return pa.array([None if value is None or value != value else str(value) for value in values])  # noqa: PLR0124
