"""Builds the feature tables of a snapshot and a protocol, from all rows or from those that were appended."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.errors import UserError
from tasks.features.append import Extension, base_of
from tasks.features.artists import normal_separators
from tasks.features.folds import build_folds
from tasks.features.full_build import build_all, check_artists
from tasks.features.registry import BuiltTable
from tasks.features.tables import Chosen
from tasks.ingest.snapshots import Snapshot
from tasks.specs import Folds, Protocol, protocol_named
from tasks.storage.warehouse import Warehouse


def build_features(
    snapshot: Snapshot,
    protocol: str,
    min_genre_rows: int,
    warehouse: Warehouse,
    artist_separators: Sequence[str] = (),
    folds: Folds | None = None,
) -> list[BuiltTable]:
    """Makes the tables of `protocol` that are not stored yet, checks all tables, and returns them in order.

    A table's version is a digest of the snapshot, its SQL and code, its parameters and the versions of its upstream
    tables. For a snapshot that was appended with kept statistics only the new rows are prepared
    (tasks/features/append.py).

    Args: artist_separators: texts that separate artists, beside those that always do. folds: of a cross-validation,
        for which an honest protocol has two more tables (tasks/features/folds.py); None: there is none.

    Raises:
        UserError: an option has a value that is not allowed.
        ProtocolError: the protocol needs artists, and there are none.
        InputError: too little is left to train on (fewer than two genres, or too few rows to split).
        CheckError: a table breaks one of the protocol's rules (sql/checks/).
    """
    if min_genre_rows < 1:
        raise UserError("--min-genre-rows must be at least 1.")
    chosen = {"min_genre_rows": min_genre_rows, "artist_separators": normal_separators(artist_separators)}
    spec = protocol_named(protocol)
    tables = _build(snapshot, spec, chosen, warehouse)
    if folds and spec.is_honest:
        tables += build_folds(snapshot, spec, folds, chosen, tables, warehouse)
    return tables


def _build(snapshot: Snapshot, protocol: Protocol, chosen: Chosen, warehouse: Warehouse) -> list[BuiltTable]:
    check_artists("artist_name" in snapshot.columns, snapshot, protocol)
    if snapshot.statistics != "kept":
        return build_all(snapshot, protocol, chosen, warehouse)
    extension = Extension.planned(snapshot, protocol, chosen, warehouse)
    if extension.is_stored():
        return extension.build([])
    return extension.build(_build(base_of(snapshot, warehouse), protocol, chosen, warehouse))
