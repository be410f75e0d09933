"""Train every model on every feature set of a source, and publish what came of it for SQL."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows import cli, preparing
from flows.fan_out import run_cells, run_flow
from flows.parameters import (
    BudgetName,
    Bytes,
    Count,
    DaskAddress,
    FeatureSetName,
    ModelName,
    Positive,
    ProtocolNames,
    RunnerName,
    Seed,
    Share,
)
from tasks.ingest.columns import parse_mapping
from tasks.ingest.sources import MAX_BYTES
from tasks.ingest.units import parse_units
from tasks.models.registry import GROUPS
from tasks.orchestration.artifacts import tag_run
from tasks.orchestration.crashed_runs import mark_killed_runs
from tasks.orchestration.executors import Limits, executor_of
from tasks.orchestration.prefect_tasks import features_task, ingest_task
from tasks.reporting import terminal
from tasks.specs import BUDGETS, STUDY_SEED, protocols_of
from tasks.storage.warehouse import Warehouse
from tasks.training.grid import plan_cells
from tasks.training.needs import possible, required_columns


@flow(name="benchmark", flow_run_name="benchmark {protocol}")
@preparing.holding_warehouse
def benchmark(
    source: str | None = None,
    protocol: ProtocolNames = "published",
    budget: BudgetName | None = None,
    models: list[ModelName] | None = None,
    feature_sets: list[FeatureSetName] | None = None,
    seeds: list[Seed] | None = None,
    refresh: bool = False,
    workers: Count | None = None,
    warehouse: str | None = None,
    columns: str = "",
    max_reject_share: Share = 0.05,
    min_genre_rows: Count = 20,
    max_source_bytes: Bytes = MAX_BYTES,
    artist_separators: list[str] | None = None,
    cell_timeout: Positive | None = None,
    cell_memory: Positive | None = None,
    runner: RunnerName = "local",
    dask_address: DaskAddress | None = None,
    spread: bool = False,
    units: str = "",
) -> State:
    """Ingest, build features, train one task run per cell, publish. Returns a state whose result is the run's id.

    Args:
        source: path, URL without secrets, sample[:ROWS] or snapshot:ID; by default $MUSIC_SOURCE, else the sample.
        protocol: how rows are filled and split: a protocol's name, or all.
        budget: full is the study's settings; brief spends less, on all rows; smoke trains each model for seconds. By
            default full for a real source.
        models: train only these models, or groups of them (study, better, single_head).
        feature_sets: train only on these.
        seeds: repeat what is stochastic for each of these.
        refresh: train anew what was trained before.
        workers: cells trained at once, one process each; by default one per core.
        warehouse: where data is kept; by default $MUSIC_WAREHOUSE, else ./warehouse.
        columns: the file's own names as ours=theirs,... or the path of a TOML file.
        units: of columns in another unit than the project's, as energy=percent,duration_ms=seconds,...
        max_reject_share: stop if a larger share of the rows has bad values.
        min_genre_rows: genres with fewer valid rows are dropped.
        max_source_bytes: stop if the source holds more, as it is or unpacked: a number or a size such as 20GB.
        artist_separators: what separates several artists in one name, beside lists, ';' and feat., which always do.
        cell_timeout: seconds after which a cell is ended; by default 3600, but 120 for smoke.
        cell_memory: MiB above which a cell is ended; by default the largest is when all pass 90 % of all memory.
        runner: where cells are trained: in processes of this machine (local), or on the workers of a Dask cluster.
        dask_address: of the cluster's scheduler, tcp://HOST:PORT; by default a cluster on this machine, for this run.
        spread: fit XGBoost to more than a million rows on all workers of the Dask cluster together.
    """
    opened = Warehouse.at(warehouse)
    mark_killed_runs(opened)
    executor = executor_of(runner, dask_address, workers, opened, spread=spread)
    protocols = protocols_of(protocol)
    chosen = (models or [], feature_sets or [], seeds or [STUDY_SEED])
    required = required_columns(plan_cells(protocols, "smoke", *chosen))
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
    tables = preparing.build_each(
        protocols,
        lambda name: features_task(snapshot, name, min_genre_rows, opened, artist_separators or []),
        silently=True,
    )
    made = [name for name in protocols if name in {table.protocol for table in tables}]
    cells = possible(plan_cells(made, spent.name, *chosen), snapshot)
    return run_cells(
        cells,
        snapshot,
        tables,
        spent,
        executor,
        Limits(cell_timeout or spent.cell_timeout, cell_memory, refresh),
        opened,
        chooses_champions=True,
    )


def parser() -> cli.Parser:
    """The command's options."""
    command = cli.source_parser("flows.benchmark", __doc__)
    add = command.add_argument
    add("--budget", choices=list(BUDGETS), help="settings; by default smoke for the sample, full for a real source")
    add("--models", type=cli.names, metavar="A,B", help=f"train only these, or groups of them: {', '.join(GROUPS)}")
    add("--feature-sets", type=cli.names, metavar="A,B", help="train only on these")
    add(
        "--seeds",
        type=cli.integers,
        default=[STUDY_SEED],
        metavar="N,M",
        help="repeat what is stochastic; by default 42",
    )
    add("--refresh", action="store_true", help="train anew what was trained before")
    add(
        "--cell-memory",
        type=float,
        metavar="MIB",
        help="end a cell that uses more; by default the largest is ended when all together pass 90 %% of the memory",
    )
    add("--cell-timeout", type=float, metavar="SECONDS", help="end a cell after this long; by default 3600, smoke 120")
    cli.add_runner(command)
    return command


def main() -> int:
    """The command `python -m flows.benchmark`."""
    options = cli.parameters(parser(), benchmark)
    cells = plan_cells(
        protocols_of(options["protocol"]),
        "smoke",
        options["models"] or [],
        options["feature_sets"] or [],
        options["seeds"],
    )
    opened = Warehouse.at(options["warehouse"])
    run_id = run_flow(benchmark, options, opened, cells)
    return 1 if terminal.print_run(run_id, opened) == "failed" else 0


if __name__ == "__main__":
    cli.run_command(main)
