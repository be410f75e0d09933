"""The known tracks nearest to a track, by their audio features: exact, by one scan in SQL over the stored z-scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from tasks.errors import UserError
from tasks.features.registry import BuiltTable, read_registry
from tasks.ingest.snapshots import stored_snapshots
from tasks.prediction.candidates import PROTOCOLS, lineage
from tasks.prediction.preparation import Learnt, prepare
from tasks.storage import duck
from tasks.storage.damage import is_whole
from tasks.storage.warehouse import Warehouse

MOST = 1_000  # tracks that may be asked for
AT_FIRST = 4  # rows looked at for each that is asked for: recordings are listed once or twice


@dataclass(frozen=True, slots=True)
class Known:
    """The tracks that a warehouse knows: those of its newest feature tables."""

    learnt: Learnt  # the statistics by which they were standardized
    tracks: Path  # staging.stg_tracks
    standardized: Path  # features.tracks_std
    n_rows: int  # a recording that is listed twice counted twice
    source: str
    is_generated: bool

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make known_tracks and known_std views of `connection`."""
        duck.view(connection, "known_tracks", self.tracks)
        duck.view(connection, "known_std", self.standardized)


def known_tracks(warehouse: Warehouse) -> Known:
    """Those of the feature tables built last for an honest protocol, of real data where there is any.

    Raises: UserError: there are none that today's SQL prepared.
    """
    built = [row for row in read_registry(warehouse) if row.table_name == "features.tracks_std"]
    snapshots = stored_snapshots(warehouse)
    honest = [
        row
        for row in built
        if row.protocol in PROTOCOLS and row.snapshot in snapshots and is_whole(warehouse.root / row.path, warehouse)
    ]

    def rank(row: BuiltTable) -> tuple[bool, object]:
        return not snapshots[row.snapshot].is_generated, row.built_at

    for row in sorted(honest, key=rank, reverse=True):
        try:
            tables = lineage(row.version, warehouse)
        except UserError:
            continue
        snapshot = snapshots[row.snapshot]
        return Known(
            learnt=Learnt.of(tables, [], warehouse),
            tracks=warehouse.here(tables["staging.stg_tracks"].path),
            standardized=warehouse.here(row.path),
            n_rows=row.rows,
            source=snapshot.source,
            is_generated=snapshot.is_generated,
        )
    raise UserError(
        f"{warehouse.address}: holds no known tracks that today's SQL prepared. Prepare some: "
        "python -m flows.features --source YOUR_TRACKS.csv --protocol cold_start"
    )


def nearest(
    connection: duckdb.DuckDBPyConnection, known: Known, row_number: int, k: int, *, is_known: bool = False
) -> pa.Table:
    """The k nearest known recordings, fewer if there are not as many: the columns of sql/predict/nearest.sql.

    Args: connection: a workspace that sees the track as row `row_number` of staging.typed_tracks.
        is_known: it is one of the known tracks, whose own recording is left out.
    Raises: UserError: k is out of range, or the row is a reject.
    """
    if not 1 <= k <= MOST:
        raise UserError(f"--k {k}: must be from 1 to {MOST:,}.")
    if not prepare(connection, known.learnt, row_number, row_number).num_rows:
        raise UserError(f"Row {row_number} cannot be compared: it was rejected, or there is no such row.")
    known.attach(connection)
    return search(connection, k, known.n_rows, is_known=is_known)


def search(connection: duckdb.DuckDBPyConnection, k: int, total: int, *, is_known: bool) -> pa.Table:
    """Run sql/predict/nearest.sql on more and more of the nearest rows, until k recordings are found.

    Args: connection: sees the tables that the SELECT names. total: rows of known_std.
    """
    select, n_rows = duck.render("predict/nearest"), AT_FIRST * k
    while True:
        values = {"n_rows": n_rows, "k": k, "is_known": is_known}
        found = connection.sql(select, params=values).to_arrow_table()
        if found.num_rows >= k or n_rows >= total:
            return found
        n_rows *= 8
