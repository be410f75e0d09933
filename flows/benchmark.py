"""Train every model on every feature set of a source, and publish what came of it for SQL."""

from __future__ import annotations

from typing import Any, Literal

import httpx
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import cli
from flows.parameters import Count, FeatureSetName, ModelName, Positive, ProtocolNames, Seed, Share
from tasks import summary
from tasks.artifacts import progress_artifact, tag_run
from tasks.cells import Job, make_jobs
from tasks.columns import parse_mapping
from tasks.errors import UserError
from tasks.models import GROUPS, plan_cells
from tasks.observed import (
    CellError,
    champions_task,
    features_task,
    ingest_task,
    publish_task,
    report_task,
    train_task,
)
from tasks.processes import Processes, share_of_cores, start_server
from tasks.progress import CellProgress
from tasks.runs import CellOutcome, finish_run, outcome_of, own_run, start_run
from tasks.specs import BUDGETS, STUDY_SEED, protocols_of
from tasks.sweep import mark_killed_runs
from tasks.warehouse import Warehouse


@flow(name="benchmark", flow_run_name="benchmark {protocol}")
@cli.holding_warehouse
def benchmark(
    source: str | None = None,
    protocol: ProtocolNames = "published",
    budget: Literal["smoke", "full"] | None = None,
    models: list[ModelName] | None = None,
    feature_sets: list[FeatureSetName] | None = None,
    seeds: list[Seed] | None = None,
    refresh: bool = False,
    workers: Count | None = None,
    warehouse: str | None = None,
    columns: str = "",
    max_reject_share: Share = 0.05,
    min_genre_rows: Count = 20,
    cell_timeout: Positive | None = None,
    cell_memory: Positive | None = None,
) -> State:
    """Ingest, build features, train one task run per cell, publish. Returns a state whose result is the run's id.

    Args:
        source: path, URL without secrets or sample[:ROWS]; by default $MUSIC_SOURCE, else the generated sample.
        protocol: how rows are filled and split: a protocol's name, or all.
        budget: full is the study's settings; smoke trains each model for seconds. By default full for a real source.
        models: train only these models, or groups of them (study, better, single_head).
        feature_sets: train only on these.
        seeds: repeat what is stochastic for each of these.
        refresh: train anew what was trained before.
        workers: cells trained at once, one process each; by default one per core.
        warehouse: where data is kept; by default $MUSIC_WAREHOUSE, else ./warehouse.
        columns: the file's own names as ours=theirs,... or the path of a TOML file.
        max_reject_share: stop if a larger share of the rows has bad values.
        min_genre_rows: genres with fewer valid rows are dropped.
        cell_timeout: seconds after which a cell is ended; by default 3600 (full) or 120 (smoke).
        cell_memory: MiB above which a cell is ended; by default the largest is, when all use 90 % of the machine's.
    """
    home = Warehouse.at(warehouse)
    mark_killed_runs(home)
    at_once, threads = share_of_cores(workers)
    protocols = protocols_of(protocol)
    snapshot = ingest_task(cli.default_source(source), parse_mapping(columns), max_reject_share, home)
    spent = BUDGETS[budget or ("smoke" if snapshot.is_generated else "full")]
    tag_run(f"protocol:{protocol}", f"budget:{spent.name}", snapshot.tag)
    tables = cli.build_each(protocols, lambda name: features_task(snapshot, name, min_genre_rows, home), silently=True)
    made = [name for name in protocols if name in {table.protocol for table in tables}]
    cells = plan_cells(made, spent.name, models or [], feature_sets or [], seeds or [STUDY_SEED])

    run = start_run(snapshot, spent.name, home, flow_run.id)
    outcomes: list[CellOutcome] = []
    status = "interrupted"
    try:
        jobs = make_jobs(cells, tables, run.run_id, home, threads)
        with (
            ThreadPoolTaskRunner[State[CellOutcome]](max_workers=at_once) as runner,
            Processes(threads, cell_timeout or spent.cell_timeout, cell_memory) as processes,
            CellProgress(len(jobs)) as progress,
            progress_artifact(progress),
        ):
            shared = {"refresh": refresh, "processes": processes, "progress": progress}
            futures: dict[PrefectFuture[State[CellOutcome]], Job] = {
                runner.submit(train_task, {"job": job, **shared}): job for job in jobs
            }
            for future in as_completed(list(futures)):
                outcomes.append(_outcome(future, futures[future]))
                progress.done()
        status = "completed" if any(outcome.status == "ok" for outcome in outcomes) else "failed"
    finally:
        finish_run(run, status, outcomes, home)
        decided = champions_task(run.run_id, threads, home) if status == "completed" else []
        publish_task(snapshot, tables, home)
    report_task(snapshot, tables, run.run_id, home)

    for line in decided:
        cli.tell(line)
    failed = [outcome for outcome in outcomes if outcome.status != "ok"]
    message = f"{len(outcomes) - len(failed)} of {len(outcomes)} cells ok, {sum(o.reused for o in outcomes)} reused"
    if (report := home.report(run.run_id)).exists():
        message += f"; report {report}"
    get_run_logger().info("%s; published in %s", message, home.address)
    if status == "failed":
        return Failed(message=f"every cell failed, the first with: {failed[0].error}", data=run.run_id)
    return Completed(message=message, data=run.run_id)


def _outcome(future: PrefectFuture[State[CellOutcome]], job: Job) -> CellOutcome:
    """A cell's row, however its task run ended."""
    future.wait()
    result = future.result(raise_on_failure=False)
    if isinstance(result, CellOutcome):
        return result
    if isinstance(result, CellError):
        return result.outcome
    return outcome_of(job, "failed", error=f"{type(result).__name__}: {result}")


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
    add("--workers", type=int, metavar="N", help="cells trained at once; by default one per core")
    add(
        "--cell-memory",
        type=float,
        metavar="MIB",
        help="end a cell that uses more; by default its share of 90 %% of all",
    )
    add("--cell-timeout", type=float, metavar="SECONDS", help="end a cell after this long; by default 3600, smoke 120")
    return command


def main() -> int:
    """The command `python -m flows.benchmark`."""
    options = cli.parameters(parser(), benchmark)
    plan_cells(
        protocols_of(options["protocol"]),
        "smoke",
        options["models"] or [],
        options["feature_sets"] or [],
        options["seeds"],
    )
    home = Warehouse.at(options["warehouse"])
    start_server(share_of_cores(options["workers"])[1])
    with cli.prefect_server():
        cli.prepare(**{name: options[name] for name in cli.SOURCE_OPTIONS})
    run_id = _run(options, home)
    return 1 if summary.print_run(run_id, home) == "failed" else 0


def _run(options: dict[str, Any], home: Warehouse) -> str:
    """Run the flow. Returns: the run's id, also if Prefect's server went away before it could be told the end."""
    try:
        state = benchmark(**options, return_state=True)
        result = state.result(raise_on_failure=False)
        if isinstance(result, BaseException):
            raise result
        cli.tell(state.message or "")
        return str(result)
    except httpx.HTTPError as error:
        if run_id := own_run(home):
            cli.tell(f"Prefect's server does not answer any more ({error}): its UI does not show how this run ended.")
            return run_id
        raise UserError(f"Prefect's server does not answer any more ({error}). Start it and try again.") from error


if __name__ == "__main__":
    cli.run_command(main)
