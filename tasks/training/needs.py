"""What cells need of the input: which columns must have values, and which cells are possible with those that have."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.errors import InputError
from tasks.ingest.columns import AUDIO_COLUMNS, COLUMN_OF
from tasks.ingest.snapshots import Snapshot
from tasks.models.registry import spec_of
from tasks.specs import AUDIO_FEATURES, FEATURE_SETS, Cell

TARGET_OF = {"genre": "music_genre", "popularity": "popularity"}


def required_columns(cells: Iterable[Cell]) -> list[str]:
    """Our columns without which nothing, or not every feature set, could be trained on.

    A target that only some of the cells need is not required: the others are trained.
    """
    needed = [(features_of(cell), targets_of(cell)) for cell in cells]
    features = set().union(*(features for features, _ in needed))
    targets = set.intersection(*(targets for _, targets in needed)) if needed else set()
    return [name for name in (*AUDIO_COLUMNS, *TARGET_OF.values()) if name in features | targets]


def possible(cells: list[Cell], snapshot: Snapshot) -> list[Cell]:
    """The cells whose targets a snapshot has. Raises: InputError: none of them."""
    kept = [cell for cell in cells if targets_of(cell) <= set(snapshot.columns)]
    if cells and not kept:
        targets = " and ".join(sorted({name for cell in cells for name in targets_of(cell)} - set(snapshot.columns)))
        raise InputError(
            f"{snapshot.source}: nothing to train: no row has a value of {targets}. Choose models of the other task, "
            "or name the column with --columns."
        )
    return kept


def features_of(cell: Cell) -> set[str]:
    """The input's columns behind a cell's features."""
    columns = FEATURE_SETS[cell.feature_set].columns or AUDIO_FEATURES
    return {COLUMN_OF.get(name, name) for name in columns if name in AUDIO_FEATURES}


def targets_of(cell: Cell) -> set[str]:
    """The input's columns that a cell learns from beside its features."""
    leak = FEATURE_SETS[cell.feature_set].leaks
    return {TARGET_OF[task] for task in (*spec_of(cell).targets, *([leak] if leak else []))}
