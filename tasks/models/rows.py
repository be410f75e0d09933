"""The rows that a cell trains and is judged on, as arrays or as stored rows, of which a slice at a time is an array."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

CHUNK_ROWS = 262_144  # read, trained on or predicted at once; a multiple of the nets' batches


@dataclass(frozen=True, slots=True)
class StoredRows:
    """One or more columns of a Parquet file, like an array of which slices are taken; each slice is read anew."""

    file: Path
    columns: tuple[str, ...] | str  # several: slices of shape (n_rows, n_columns); one by its name: (n_rows,)
    dtype: str
    n_rows: int

    def __len__(self) -> int:
        """How many rows there are."""
        return self.n_rows

    def __getitem__(self, rows: slice) -> np.ndarray:
        """The rows of a slice, whose step is 1."""
        start, stop, _ = rows.indices(self.n_rows)
        part = pl.scan_parquet(self.file, glob=False).select(self.columns).slice(start, stop - start).collect()
        values = part[self.columns].to_numpy() if isinstance(self.columns, str) else part.to_numpy(order="c")
        return values.astype(self.dtype, copy=False)


Rows = np.ndarray | StoredRows


@dataclass(frozen=True, slots=True)
class Data:
    """A feature table by split, in the order of the split."""

    features: list[str]
    n_train: int  # rows of split train, which are not here if they are fitted to elsewhere
    x: dict[str, Rows]  # (n_rows, n_features)
    y: dict[str, dict[str, Any]]  # by task: genre codes, popularity; (n_rows,) arrays, of split train Rows
    track_id: dict[str, np.ndarray]  # this and what follows: of what is evaluated
    is_imputed: dict[str, np.ndarray]
    units: dict[str, np.ndarray]  # rows of equal unit are not independent of one another
    sampled_from: int | None = None  # so many training rows, those here are a sample of; None: they are all


def chunks_of(rows: Rows) -> list[slice]:
    """What to read at once of stored rows, in order; an array is one chunk."""
    return blocks_of(len(rows)) if isinstance(rows, StoredRows) else [slice(0, len(rows))]


def blocks_of(n_rows: int) -> list[slice]:
    """So many rows, CHUNK_ROWS at a time."""
    return [slice(start, min(start + CHUNK_ROWS, n_rows)) for start in range(0, n_rows, CHUNK_ROWS)]


def classes_of(codes: Rows) -> np.ndarray:
    """The distinct codes of a target, ascending; read a chunk at a time."""
    return np.unique(np.concatenate([np.unique(codes[rows]) for rows in chunks_of(codes)]))
