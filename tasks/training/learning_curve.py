"""Plans a learning curve: the numbers of training rows, and the cells trained on them."""

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
    """Returns half of `n_rows`, a quarter and so on, the largest first, down to `smallest`; not `n_rows` itself.

    Raises: UserError: half of the rows are fewer than `smallest`.
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
    """Returns the number of training rows under a budget. Args: tables: the feature tables of one protocol."""
    [table] = [table for table in tables if table.table_name == "features.split_assignment"]
    split = pl.scan_parquet(warehouse.here(table.path)).filter(pl.col("split") == "train")
    n_rows = int(split.select(pl.len()).collect().item())
    return min(n_rows, budget.max_train_rows or n_rows)


def curve_cells(cells: Iterable[Cell], train_rows: Iterable[int], *, is_large: bool = False) -> list[Cell]:
    """Returns each cell on all rows and on each number of rows in `train_rows`, in the order given.

    Args: is_large: whether the table stays on disk. Models that need their rows in memory then get cells only for
        fewer rows than their sample.
    """
    cells = list(cells)
    parts = [replace(cell, train_rows=n) for n in train_rows for cell in cells]
    if is_large:
        parts = [cell for cell in parts if spec_of(cell).fit_out_of_core or (cell.train_rows or 0) < SUBSAMPLE_ROWS]
    return [*cells, *parts]
