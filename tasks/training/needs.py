"""Finds the input columns that cells need, and the cells that are possible with the columns of a snapshot."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.errors import InputError
from tasks.ingest.columns import AUDIO_COLUMNS, COLUMN_OF
from tasks.ingest.snapshots import Snapshot
from tasks.models.registry import spec_of
from tasks.specs import FEATURE_SETS, Cell

TARGET_OF = {"genre": "music_genre", "popularity": "popularity"}


def required_columns(cells: Iterable[Cell]) -> list[str]:
    """Returns the columns that the input must have: those of all features, and the targets that every cell needs.

    A target that only some of the cells need is not required, because the other cells can still be trained.
    """
    needed = [(features_of(cell), targets_of(cell)) for cell in cells]
    features = set().union(*(features for features, _ in needed))
    targets = set.intersection(*(targets for _, targets in needed)) if needed else set()
    return [name for name in (*AUDIO_COLUMNS, *TARGET_OF.values()) if name in features | targets]


def possible(cells: list[Cell], snapshot: Snapshot) -> list[Cell]:
    """Returns the cells whose targets a snapshot has. Raises: InputError: it has the targets of no cell."""
    kept = [cell for cell in cells if targets_of(cell) <= set(snapshot.columns)]
    if cells and not kept:
        targets = " and ".join(sorted({name for cell in cells for name in targets_of(cell)} - set(snapshot.columns)))
        raise InputError(
            f"{snapshot.source}: nothing to train: no row has a value of {targets}. Choose models of the other task, "
            "or name the column with --columns."
        )
    return kept


def features_of(cell: Cell) -> set[str]:
    """Returns the input columns from which a cell's features are made."""
    return {COLUMN_OF.get(name, name) for name in FEATURE_SETS[cell.feature_set].audio_features}


def targets_of(cell: Cell) -> set[str]:
    """Returns the input columns of a cell's targets, and of the target that its feature set leaks."""
    leak = FEATURE_SETS[cell.feature_set].leaks
    return {TARGET_OF[task] for task in (*spec_of(cell).targets, *([leak] if leak else []))}
