"""What more training data buys: train models on ever more of the training rows, always judged on the same test rows."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows import cli, preparing
from flows.fan_out import run_cells, run_flow
from flows.parameters import BudgetName, Bytes, Count, DaskAddress, ModelName, ProtocolName, RunnerName, Share
from tasks.ingest.columns import parse_mapping
from tasks.ingest.sources import MAX_BYTES
from tasks.ingest.units import parse_units
from tasks.models.registry import GROUPS
from tasks.orchestration.artifacts import tag_run
from tasks.orchestration.crashed_runs import mark_killed_runs
from tasks.orchestration.executors import Limits, executor_of
from tasks.orchestration.prefect_tasks import features_task, ingest_task
from tasks.reporting import terminal
from tasks.specs import BUDGETS, STUDY_SEED
from tasks.storage.warehouse import Warehouse
from tasks.training.grid import plan_cells
from tasks.training.large_tables import LARGE_ROWS
from tasks.training.learning_curve import curve_cells, sizes, training_rows
from tasks.training.needs import possible, required_columns


@flow(name="learning-curve", flow_run_name="learning curve {protocol}")
@preparing.holding_warehouse
def learning_curve(
    source: str | None = None,
    protocol: ProtocolName = "cold_start",
    budget: BudgetName | None = None,
    models: list[ModelName] | None = None,
    smallest: Count = 1000,
    refresh: bool = False,
    workers: Count | None = None,
    warehouse: str | None = None,
    columns: str = "",
    max_reject_share: Share = 0.05,
    min_genre_rows: Count = 20,
    max_source_bytes: Bytes = MAX_BYTES,
    artist_separators: list[str] | None = None,
    runner: RunnerName = "local",
    dask_address: DaskAddress | None = None,
    spread: bool = False,
    units: str = "",
) -> State:
    """Ingest, build features, train each model on all training rows and on halves of halves of them, publish.

    Args:
        source: path, URL without secrets, sample[:ROWS] or snapshot:ID; by default $MUSIC_SOURCE, else the sample.
        protocol: how rows are filled and split: a protocol's name.
        budget: full is the study's settings; brief spends less, on all rows; smoke trains each model for seconds. By
            default full for a real source.
        models: train only these models, or groups of them (study, better, single_head), on all features.
        smallest: the fewest training rows: halving ends before it.
        refresh: train anew what was trained before.
        workers: cells trained at once, one process each; by default one per core.
        warehouse: where data is kept; by default $MUSIC_WAREHOUSE, else ./warehouse.
        columns: the file's own names as ours=theirs,... or the path of a TOML file.
        units: of columns in another unit than the project's, as energy=percent,duration_ms=seconds,...
        max_reject_share: stop if a larger share of the rows has bad values.
        min_genre_rows: genres with fewer valid rows are dropped.
        max_source_bytes: stop if the source holds more, as it is or unpacked: a number or a size such as 20GB.
        artist_separators: what separates several artists in one name, beside lists, ';' and feat., which always do.
        runner: where cells are trained: in processes of this machine (local), or on the workers of a Dask cluster.
        dask_address: of the cluster's scheduler, tcp://HOST:PORT; by default a cluster on this machine, for this run.
        spread: fit XGBoost to more than a million rows on all workers of the Dask cluster together.
    """
    opened = Warehouse.at(warehouse)
    mark_killed_runs(opened)
    executor = executor_of(runner, dask_address, workers, opened, spread=spread)
    required = required_columns(plan_cells([protocol], "smoke", models or [], ["all"], [STUDY_SEED]))
    snapshot = ingest_task(
        preparing.default_source(source),
        parse_mapping(columns),
        max_reject_share,
        opened,
        units=parse_units(units),
        required=required,
        max_bytes=max_source_bytes,
    )
    spent = BUDGETS[budget or ("smoke" if snapshot.is_generated else "full")]
    tag_run(f"protocol:{protocol}", f"budget:{spent.name}", snapshot.tag)
    tables = features_task(snapshot, protocol, min_genre_rows, opened, artist_separators or [])
    cells = possible(plan_cells([protocol], spent.name, models or [], ["all"], [STUDY_SEED]), snapshot)
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


def parser() -> cli.Parser:
    """The command's options."""
    command = cli.source_parser("flows.learning_curve", __doc__, protocol="cold_start", several="")
    add = command.add_argument
    add("--budget", choices=list(BUDGETS), help="settings; by default smoke for the sample, full for a real source")
    add("--models", type=cli.names, metavar="A,B", help=f"train only these, or groups of them: {', '.join(GROUPS)}")
    add("--smallest", type=int, default=1000, metavar="N", help="the fewest training rows; by default 1000")
    add("--refresh", action="store_true", help="train anew what was trained before")
    cli.add_runner(command)
    return command


def main() -> int:
    """The command `python -m flows.learning_curve`."""
    options = cli.parameters(parser(), learning_curve)
    cells = plan_cells([options["protocol"]], "smoke", options["models"] or [], ["all"], [STUDY_SEED])
    opened = Warehouse.at(options["warehouse"])
    run_id = run_flow(learning_curve, options, opened, cells)
    return 1 if terminal.print_curve(run_id, opened) == "failed" else 0


if __name__ == "__main__":
    cli.run_command(main)
