"""The learning curve: which numbers of training rows, and which cells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import polars as pl

from tasks.errors import UserError
from tasks.features.registry import BuiltTable
from tasks.models.registry import spec_of
from tasks.specs import Budget, Cell
from tasks.storage.warehouse import Warehouse
from tasks.training.large_tables import SUBSAMPLE_ROWS


def sizes(n_rows: int, smallest: int) -> list[int]:
    """Half of all rows, half of that and so on, the largest first, none below `smallest`; all rows are not listed.

    Raises: UserError: there is none.
    """
    found = []
    while (n_rows := n_rows // 2) >= smallest:
        found.append(n_rows)
    if not found:
        raise UserError(
            f"No learning curve: half of the training rows are fewer than {smallest:,}. Give more rows, or a lower "
            "--smallest."
        )
    return found


def training_rows(tables: list[BuiltTable], budget: Budget, warehouse: Warehouse) -> int:
    """How many rows a cell of this budget trains on, of the one protocol that the tables are of."""
    [table] = [table for table in tables if table.table_name == "features.split_assignment"]
    split = pl.scan_parquet(warehouse.here(table.path)).filter(pl.col("split") == "train")
    n_rows = int(split.select(pl.len()).collect().item())
    return min(n_rows, budget.max_train_rows or n_rows)


def curve_cells(cells: Iterable[Cell], train_rows: Iterable[int], *, is_large: bool = False) -> list[Cell]:
    """Each cell on all rows, as it is, and on so many of them; those on most rows, which take longest, first.

    Args: is_large: of a table that stays on disk models that need their rows in memory get no more than a sample.
    """
    cells = list(cells)
    parts = [replace(cell, train_rows=n) for n in train_rows for cell in cells]
    if is_large:
        parts = [cell for cell in parts if spec_of(cell).fit_out_of_core or (cell.train_rows or 0) < SUBSAMPLE_ROWS]
    return [*cells, *parts]
