"""Train every model on every feature set of a source, and publish the results for SQL."""

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
    FeatureSets,
    FoldCount,
    FoldSeed,
    Mebibytes,
    Models,
    Plugins,
    ProtocolNames,
    RunnerName,
    Seconds,
    Seeds,
    Separators,
    Share,
    Source,
    Units,
    WarehouseName,
)

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State


@holding_warehouse
def benchmark(
    source: Source | None = None,
    plugins: Plugins = None,
    protocol: ProtocolNames = "published",
    budget: BudgetName | None = None,
    models: Models | None = None,
    feature_sets: FeatureSets | None = None,
    seeds: Seeds | None = None,
    folds: FoldCount | None = None,
    fold_seed: FoldSeed | None = None,
    refresh: bool = False,
    workers: Count | None = None,
    warehouse: WarehouseName | None = None,
    columns: Columns = "",
    max_reject_share: Share = 0.05,
    min_genre_rows: Count = 20,
    max_source_bytes: Bytes = SOURCE_BYTES,
    artist_separators: Separators | None = None,
    cell_timeout: Seconds | None = None,
    cell_memory: Mebibytes | None = None,
    runner: RunnerName = "local",
    dask_address: DaskAddress | None = None,
    spread: bool = False,
    units: Units = "",
    as_current: bool = False,
) -> State:
    """Ingest, build features, train each cell in one task run, publish. The result of the state is the run's id.

    Args:
        source: CSV, gzipped CSV or Parquet by path or URL, the built-in generated sample, or tracks that were read
            before (snapshot:latest: the published ones). By default $MUSIC_SOURCE, else the sample. Give a URL that
            holds secrets by $MUSIC_SOURCE: a flow run keeps its parameters.
        plugins: Python files that add models, feature sets and protocols (docs/plugins.md), besides those of
            $MUSIC_PLUGINS.
        protocol: how rows are filled and split: published, label_free, cold_start, one that measures a leak
            (docs/words.md), main for the first three, probes for the others, or all.
        budget: full is the study's settings; brief spends less, on all rows; smoke trains each model for seconds. By
            default smoke for the sample, full for a real source.
        models: train only these models, or groups of them: study, better, single_head. MODEL@NAME is a model with the
            settings that flows.tune saved as NAME.
        feature_sets: train only on these feature sets.
        seeds: repeat what is stochastic for each of these seeds. By default 42.
        folds: cross-validate each honest protocol on so many folds, 2 to 50, beside its single split: each track is
            tested once, by models trained without it (results.cross_validated). By default none.
        fold_seed: by which the tracks are divided into the folds: another one shows whether the ranking of models
            depends on how they were divided. By default the study's, 42.
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
        cell_timeout: end a cell after so many seconds. By default 3600, but 120 for smoke.
        cell_memory: end a cell that uses more MiB. By default the largest cell is ended when all together pass 90 % of
            the memory.
        runner: where cells are trained: in processes of this machine (local), or on the workers of a Dask cluster
            (dask).
        dask_address: the address of the Dask scheduler. By default a cluster on this machine, for this run.
        spread: fit XGBoost to more than a million rows on all workers of the Dask cluster together.
        units: convert columns in another unit, as energy=percent,duration_ms=seconds,... (docs/input.md).
        as_current: make the source the warehouse's current catalogue, once the run is completed: its champions, known
            tracks, leaderboard and reports are shown then. Without it, a run of another source than the current
            catalogue is a trial (docs/results.md).
    """
    from flows.fan_out import run_cells
    from flows.preparing import Preparation
    from tasks.orchestration.artifacts import tag_run
    from tasks.orchestration.crashed_runs import mark_killed_runs
    from tasks.orchestration.executors import executor_of
    from tasks.storage.warehouse import Warehouse
    from tasks.training.local import Limits
    from tasks.training.request import Request

    opened = Warehouse.at(warehouse)
    mark_killed_runs(opened)
    executor = executor_of(runner, dask_address, workers, opened, spread=spread)
    request = Request.of(protocol, budget, models, feature_sets, seeds, opened, folds, fold_seed)
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
        folds=request.folds,
    ).in_flow()
    spent, cells = request.cells(snapshot, tables)
    tag_run(f"protocol:{protocol}", f"budget:{spent.name}", snapshot.tag)
    return run_cells(
        cells,
        snapshot,
        tables,
        spent,
        executor,
        Limits(cell_timeout or spent.cell_timeout, cell_memory, refresh),
        opened,
        chooses_champions=True,
        as_current=as_current,
    )


def run(options: dict[str, Any]) -> Outcome:
    """Runs the flow for the command."""
    from flows.fan_out import outcome_of_run
    from tasks.reporting.terminal import print_run
    from tasks.storage.warehouse import Warehouse
    from tasks.training.request import Request

    asked = [options[name] for name in ("protocol", "budget", "models", "feature_sets", "seeds")]
    asked += [Warehouse.at(options["warehouse"]), options["folds"], options["fold_seed"]]
    request = Request.of(*asked)
    return outcome_of_run(benchmark, options, request.required, print_run, request.folds)


COMMAND = Command(
    name="run",
    function=benchmark,
    run=run,
    kept="Finished cells are kept: the same command goes on from there.",
    starts_server=True,
    examples=(
        "",
        "--source musicData.csv --protocol main",
        "--source musicData.csv --models xgboost,multitask_tuned --feature-sets all --seeds 42,43",
    ),
)

if __name__ == "__main__":
    cli.run_app(COMMAND.app())
