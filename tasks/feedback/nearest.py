"""The known tracks nearest to a track by audio features: an exact search in SQL over the stored z-scores."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from tasks.errors import UserError
from tasks.features.registry import BuiltTable, read_registry
from tasks.ingest.snapshots import stored_snapshots
from tasks.prediction.candidates import is_honest, lineage
from tasks.prediction.preparation import FittedStatistics, prepare
from tasks.specs import PROBES, PROTOCOLS
from tasks.storage import duck
from tasks.storage.damage import is_whole
from tasks.storage.warehouse import Warehouse
from tasks.training.catalogues import Catalogues

MOST = 1_000  # largest k
AT_FIRST = 4  # rows fetched first per requested recording: most recordings are listed once or twice


@dataclass(frozen=True, slots=True)
class Known:
    """The known tracks of a warehouse: those of the newest feature tables of its current catalogue."""

    fitted: FittedStatistics  # the statistics that standardized them
    tracks: Path  # staging.stg_tracks
    standardized: Path  # features.tracks_std
    n_rows: int  # a recording that is listed twice counts twice
    source: str
    is_generated: bool

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Creates the views known_tracks and known_std."""
        duck.view(connection, "known_tracks", self.tracks)
        duck.view(connection, "known_std", self.standardized)


def known_tracks(warehouse: Warehouse) -> Known:
    """Returns the tracks of the current catalogue's newest feature tables of an honest protocol.

    If no run is completed yet, there is no current catalogue: then those of the newest tables, of real data if there is
    any.

    Raises: UserError: there are none that the current SQL prepared.
    """
    catalogues = Catalogues.of(warehouse)
    built = [row for row in read_registry(warehouse) if row.table_name == "features.tracks_std"]
    snapshots = stored_snapshots(warehouse)
    honest = [
        row
        for row in built
        if is_honest(row.protocol or "")
        and row.snapshot in snapshots
        and catalogues.has_current(snapshots[row.snapshot])
        and is_whole(warehouse.root / row.path, warehouse)
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
            fitted=FittedStatistics.of(tables, [], warehouse),
            tracks=warehouse.here(tables["staging.stg_tracks"].path),
            standardized=warehouse.here(row.path),
            n_rows=row.rows,
            source=snapshot.source,
            is_generated=snapshot.is_generated,
        )
    unknown = sorted({row.protocol for row in built if row.protocol and row.protocol not in {*PROTOCOLS, *PROBES}})
    of_plugin = f" (protocol {', '.join(unknown)} is of a plug-in that is not loaded)" if unknown else ""
    of_current = f" of its current catalogue, {catalogues.current}," if catalogues.current else ""
    source = shlex.quote(catalogues.current or "YOUR_TRACKS.csv")
    raise UserError(
        f"{warehouse.address}: holds no known tracks{of_current} that today's SQL prepared{of_plugin}. Prepare some: "
        f"python -m flows.features --source {source} --protocol cold_start"
    )


def nearest(
    connection: duckdb.DuckDBPyConnection, known: Known, row_number: int, k: int, *, is_known: bool = False
) -> pa.Table:
    """Returns the k nearest known recordings, or all if there are fewer: the columns of sql/predict/nearest.sql.

    Args: connection: a workspace with the track as row `row_number` of staging.typed_tracks. is_known: whether it is
        one of the known tracks; its own recording is left out then.

    Raises: UserError: k is out of range, or the row is rejected.
    """
    if not 1 <= k <= MOST:
        raise UserError(f"--k {k}: must be from 1 to {MOST:,}.")
    if not prepare(connection, known.fitted, row_number, row_number).num_rows:
        raise UserError(f"Row {row_number} cannot be compared: it was rejected, or there is no such row.")
    known.attach(connection)
    return search(connection, k, known.n_rows, is_known=is_known)


def search(connection: duckdb.DuckDBPyConnection, k: int, total: int, *, is_known: bool) -> pa.Table:
    """Runs sql/predict/nearest.sql on more and more of the nearest rows, until k recordings are found.

    Args: connection: has the tables that the SELECT names. total: number of rows of known_std.
    """
    select, n_rows = duck.render("predict/nearest"), AT_FIRST * k
    while True:
        values = {"n_rows": n_rows, "k": k, "is_known": is_known}
        found = connection.sql(select, params=values).to_arrow_table()
        if found.num_rows >= k or n_rows >= total:
            return found
        n_rows *= 8
