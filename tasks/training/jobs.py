"""Jobs: a job describes one cell to the process that trains it."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.features import folds
from tasks.features.registry import BuiltTable
from tasks.features.tables import genres_of
from tasks.plugins import loaded_files
from tasks.specs import FEATURE_SETS, Cell
from tasks.storage.warehouse import LAST_OF_CELL, Warehouse
from tasks.training.cell_key import cell_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """All that a process needs to train one cell; small, so that it can be sent to any process."""

    cell: Cell
    key: str
    result: str  # the folder below `cells/` that the finished cell will have: <key>-<run_id>
    feature_version: str  # of the table below, or of the statistics of its folds
    staging_version: str  # the version of staging.stg_tracks, from which every feature table is made
    table: str  # the feature table's Parquet file, below the warehouse
    split_table: str  # features.split_assignment, likewise
    fold_tables: tuple[tuple[str, str], ...] = ()  # what a fold's rows are made of: names of tables, and their files
    genres: tuple[str, ...]  # in the order of the genre codes
    warehouse: str  # its address
    threads: int
    plugins: tuple[str, ...] = ()  # files of plug-ins that its process loads first
    cluster: str | None = None  # the Dask scheduler's address, for a cell that several workers fit together

    @property
    def is_stored(self) -> bool:
        """Whether the result of this cell in this run is stored."""
        warehouse = Warehouse.at(self.warehouse)
        return warehouse.here(warehouse.cell(self.result) / LAST_OF_CELL).exists()


def make_jobs(
    cells: list[Cell], tables: list[BuiltTable], run_id: str, warehouse: Warehouse, threads: int
) -> list[Job]:
    """Returns the jobs that train `cells` in a run, each on the table of its feature set and protocol."""
    built = {(table.table_name, table.protocol): table for table in tables}
    mapping = built["features.genre_mapping", None]
    genres = genres_of(mapping, warehouse)
    jobs = []
    for cell in cells:
        table = built[table_name(cell), cell.protocol]
        version = table.version
        fold_tables: tuple[tuple[str, str], ...] = ()
        if cell.fold:
            files = {name: built.get((name, None)) or built[name, cell.protocol] for name in folds.STORED}
            version = files[folds.STATISTICS].version
            fold_tables = tuple((name, file.path) for name, file in files.items())
        key = key_of(cell, version)
        jobs.append(
            Job(
                cell=cell,
                key=key,
                result=f"{key}-{run_id}",
                feature_version=version,
                staging_version=built["staging.stg_tracks", None].version,
                table=table.path,
                split_table=built["features.split_assignment", cell.protocol].path,
                fold_tables=fold_tables,
                genres=genres,
                warehouse=warehouse.address,
                threads=threads,
                plugins=loaded_files(),
            )
        )
    return jobs


def key_of(cell: Cell, feature_version: str) -> str:
    """Returns a cell's key. Args: feature_version: of its feature table, or of the statistics of its folds."""
    if cell.fold:
        feature_version = folds.version_of(table_name(cell), cell.protocol, cell.fold, feature_version)
    return cell_key(cell, feature_version)


def table_name(cell: Cell) -> str:
    """Returns the name of the feature table that a cell trains on."""
    chosen = FEATURE_SETS[cell.feature_set]
    return "features.tracks_multitask" if cell.task == "multitask" and chosen.table else chosen.table_name
