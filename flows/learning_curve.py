"""Train models on growing parts of the training rows, to see what more data improves on the same test rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows import cli
from flows.holding import holding_warehouse
from flows.options import Command, Outcome
from flows.parameters import (
    SOURCE_BYTES,
    BudgetName,
    Bytes,
    Columns,
    Count,
    DaskAddress,
    Models,
    Plugins,
    ProtocolName,
    RunnerName,
    Separators,
    Share,
    Source,
    Units,
    WarehouseName,
)

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State


@holding_warehouse
def learning_curve(
    source: Source | None = None,
    plugins: Plugins = None,
    protocol: ProtocolName = "cold_start",
    budget: BudgetName | None = None,
    models: Models | None = None,
    smallest: Count = 1000,
    refresh: bool = False,
    workers: Count | None = None,
    warehouse: WarehouseName | None = None,
    columns: Columns = "",
    max_reject_share: Share = 0.05,
    min_genre_rows: Count = 20,
    max_source_bytes: Bytes = SOURCE_BYTES,
    artist_separators: Separators | None = None,
    runner: RunnerName = "local",
    dask_address: DaskAddress | None = None,
    spread: bool = False,
    units: Units = "",
) -> State:
    """Ingest, build features, train each model on all training rows, a half, a quarter and so on, publish.

    Args:
        source: CSV, gzipped CSV or Parquet by path or URL, the built-in generated sample, or tracks that were read
            before (snapshot:latest: the published ones). By default $MUSIC_SOURCE, else the sample. Give a URL that
            holds secrets by $MUSIC_SOURCE: a flow run keeps its parameters.
        plugins: Python files that add models, feature sets and protocols (docs/plugins.md), besides those of
            $MUSIC_PLUGINS.
        protocol: how rows are filled and split: published, label_free or cold_start.
        budget: full is the study's settings; brief spends less, on all rows; smoke trains each model for seconds. By
            default smoke for the sample, full for a real source.
        models: train only these models, or groups of them, on all features: study, better, single_head. MODEL@NAME is
            a model with the settings that flows.tune saved as NAME.
        smallest: the fewest training rows: halving ends before it.
        refresh: train again what was trained before.
        workers: cells trained at once, one process each. By default one per core.
        warehouse: where data is kept, a folder or a URL (s3://bucket/prefix). By default $MUSIC_WAREHOUSE, else
            ./warehouse.
        columns: the file's own column names, as ours=theirs,..., in a TOML file of such pairs, or as the name of a
            public file (tidytuesday).
        max_reject_share: stop if a larger share of the rows has bad values.
        min_genre_rows: drop genres with fewer valid rows.
        max_source_bytes: refuse a source that is larger, as it is or unpacked: bytes, or a size such as 20GB.
        artist_separators: what separates several artists in one name, such as ', ' ' & ' ' x ' /. Lists, ';' and feat.
            always do.
        runner: where cells are trained: in processes of this machine (local), or on the workers of a Dask cluster
            (dask).
        dask_address: the address of the Dask scheduler. By default a cluster on this machine, for this run.
        spread: fit XGBoost to more than a million rows on all workers of the Dask cluster together.
        units: convert columns in another unit, as energy=percent,duration_ms=seconds,... (docs/input.md).
    """
    from flows.fan_out import run_cells
    from flows.preparing import Preparation
    from tasks.orchestration.artifacts import tag_run
    from tasks.orchestration.crashed_runs import mark_killed_runs
    from tasks.orchestration.executors import executor_of
    from tasks.storage.warehouse import Warehouse
    from tasks.training.large_tables import LARGE_ROWS
    from tasks.training.learning_curve import curve_cells, sizes, training_rows
    from tasks.training.local import Limits
    from tasks.training.request import Request

    opened = Warehouse.at(warehouse)
    mark_killed_runs(opened)
    executor = executor_of(runner, dask_address, workers, opened, spread=spread)
    request = Request.of(protocol, budget, models, ["all"], None, opened)
    snapshot, tables = Preparation.of(
        source,
        columns,
        protocol,
        warehouse,
        max_reject_share,
        min_genre_rows,
        max_source_bytes,
        artist_separators,
        units=units,
        required=request.required,
    ).in_flow()
    spent, cells = request.cells(snapshot, tables)
    tag_run(f"protocol:{protocol}", f"budget:{spent.name}", snapshot.tag)
    is_large = max(table.rows for table in tables) > LARGE_ROWS
    return run_cells(
        curve_cells(cells, sizes(training_rows(tables, spent, opened), smallest), is_large=is_large),
        snapshot,
        tables,
        spent,
        executor,
        Limits(spent.cell_timeout, None, refresh),
        opened,
        chooses_champions=False,
    )


def run(options: dict[str, Any]) -> Outcome:
    """Runs the flow for the command."""
    from flows.fan_out import outcome_of_run
    from tasks.reporting.terminal import print_curve
    from tasks.storage.warehouse import Warehouse
    from tasks.training.request import Request

    asked = (options["protocol"], options["budget"], options["models"], ["all"], None)
    request = Request.of(*asked, Warehouse.at(options["warehouse"]))
    return outcome_of_run(learning_curve, options, request.required, print_curve)


COMMAND = Command(
    name="curve",
    function=learning_curve,
    run=run,
    kept="Finished cells are kept: the same command goes on from there.",
    starts_server=True,
    examples=("--models xgboost,linear", "--source musicData.csv --protocol label_free"),
)

if __name__ == "__main__":
    cli.run_app(COMMAND.app())
