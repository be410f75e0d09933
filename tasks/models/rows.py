"""The rows on which a cell is trained and evaluated: arrays, or rows on disk that are read a slice at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.specs import FeatureSet

CHUNK_ROWS = 262_144  # rows read, trained on or predicted at once; a multiple of the nets' batch sizes


@dataclass(frozen=True, slots=True)
class StoredRows:
    """One or more columns of a Parquet file, sliced like an array; each slice is read from the file again."""

    file: Path
    columns: tuple[str, ...] | str  # a tuple gives slices of shape (n_rows, n_columns), a name (n_rows,)
    dtype: str
    n_rows: int

    def __len__(self) -> int:
        """The number of rows."""
        return self.n_rows

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Reads the rows of a slice with step 1."""
        import polars as pl

        start, stop, _ = rows.indices(self.n_rows)
        part = pl.scan_parquet(self.file, glob=False).select(self.columns).slice(start, stop - start).collect()
        values = part[self.columns].to_numpy() if isinstance(self.columns, str) else part.to_numpy(order="c")
        return values.astype(self.dtype, copy=False)


Rows = np.ndarray | StoredRows


@dataclass(frozen=True, slots=True)
class Data:
    """The rows of a feature table by split, in the order of their position in it."""

    features: list[str]
    n_train: int  # rows of split train; they are not in x and y if Dask workers fit to them
    x: dict[str, Rows]  # (n_rows, n_features)
    y: dict[str, dict[str, Any]]  # by task: genre codes or popularity, (n_rows,); Rows for split train, else arrays
    track_id: dict[str, np.ndarray]  # this and the next: of the evaluated splits only
    is_imputed: dict[str, np.ndarray]
    units: dict[str, np.ndarray]  # resampling units: rows with an equal unit are not independent
    sampled_from: int | None = None  # the rows that the training rows are a sample of; None: they are no sample


def chunks_of(rows: Rows) -> list[slice]:
    """Returns the slices in which rows are read, in order; an array is one slice."""
    return blocks_of(len(rows)) if isinstance(rows, StoredRows) else [slice(0, len(rows))]


def blocks_of(n_rows: int) -> list[slice]:
    """Returns slices of at most CHUNK_ROWS rows that cover `n_rows` rows."""
    return [slice(start, min(start + CHUNK_ROWS, n_rows)) for start in range(0, n_rows, CHUNK_ROWS)]


def classes_of(codes: Rows) -> np.ndarray:
    """Returns the distinct codes of a target, ascending; stored rows are read one chunk at a time."""
    return np.unique(np.concatenate([np.unique(codes[rows]) for rows in chunks_of(codes)]))


def columns_of(feature_set: FeatureSet, table_columns: Sequence[str]) -> list[str]:
    """Returns the columns of a feature set, given the columns of its table."""
    if feature_set.leaks == "genre":
        genres = (name for name in table_columns if name.startswith("genre_") and name != "genre_id")
        return [*feature_set.columns, *genres]
    components = [name for name in table_columns if name.startswith("pc") and name[2:].isdigit()]
    return list(feature_set.columns) or components
