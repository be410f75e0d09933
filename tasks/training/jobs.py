"""A job: all that a training process needs to know of the cell that it trains."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.features.registry import BuiltTable
from tasks.features.tables import genres_of
from tasks.specs import FEATURE_SETS, Cell
from tasks.storage.warehouse import LAST_OF_CELL, Warehouse
from tasks.training.cell_key import cell_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """All that a training process needs to know; small, so that it can be handed to any process."""

    cell: Cell
    key: str
    result: str  # the folder below `cells/` that the finished cell will have: <key>-<run_id>
    feature_version: str
    staging_version: str  # of the tracks that everything else is made from
    table: str  # the feature table's Parquet file, below the warehouse
    split_table: str  # features.split_assignment, likewise
    genres: tuple[str, ...]  # by genre code
    warehouse: str  # its address
    threads: int
    cluster: str | None = None  # the Dask scheduler's address, of a cell that several workers fit together

    @property
    def is_stored(self) -> bool:
        """Whether its run has its result."""
        warehouse = Warehouse.at(self.warehouse)
        return warehouse.here(warehouse.cell(self.result) / LAST_OF_CELL).exists()


def make_jobs(
    cells: list[Cell], tables: list[BuiltTable], run_id: str, warehouse: Warehouse, threads: int
) -> list[Job]:
    """The jobs that train `cells` for a run, each on the table that its feature set and protocol name."""
    built = {(table.table_name, table.protocol): table for table in tables}
    mapping = built["features.genre_mapping", None]
    genres = genres_of(mapping, warehouse)
    jobs = []
    for cell in cells:
        table = built[table_name(cell), cell.protocol]
        key = cell_key(cell, table.version)
        jobs.append(
            Job(
                cell=cell,
                key=key,
                result=f"{key}-{run_id}",
                feature_version=table.version,
                staging_version=built["staging.stg_tracks", None].version,
                table=table.path,
                split_table=built["features.split_assignment", cell.protocol].path,
                genres=genres,
                warehouse=warehouse.address,
                threads=threads,
            )
        )
    return jobs


def table_name(cell: Cell) -> str:
    """The feature table that a cell trains on."""
    return f"features.{'tracks_multitask' if cell.task == 'multitask' else FEATURE_SETS[cell.feature_set].table}"
