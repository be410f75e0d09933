"""Search for a model's settings on the validation split; the same command goes on with a search that was ended."""

from __future__ import annotations

import json
import time

from prefect import flow

from flows import cli, preparing, server
from flows.parameters import Bytes, Count, Positive, ProtocolName, Share
from flows.preparing import Preparation
from tasks.compute.processes import Processes, share_of_cores, start_server
from tasks.ingest.columns import parse_mapping
from tasks.ingest.sources import MAX_BYTES
from tasks.ingest.units import parse_units
from tasks.models.spec import ModelSpec
from tasks.orchestration.crashed_runs import mark_killed_runs
from tasks.orchestration.prefect_tasks import features_task, ingest_task, publish_task, trial_task
from tasks.specs import BUDGETS, PROTOCOLS, STUDY_SEED, Cell, Task
from tasks.storage.warehouse import Warehouse
from tasks.training import tuning
from tasks.training.jobs import make_jobs
from tasks.training.needs import required_columns
from tasks.training.tuning import Best, open_search, tunable


@flow(name="tune", flow_run_name="tune {task} {model} ({protocol})")
@preparing.holding_warehouse
def tune(
    task: Task,
    model: str,
    trials: Count = 20,
    timeout: Positive | None = None,
    threads: Count | None = None,
    source: str | None = None,
    columns: str = "",
    protocol: ProtocolName = "cold_start",
    warehouse: str | None = None,
    max_reject_share: Share = 0.05,
    min_genre_rows: Count = 20,
    units: str = "",
    max_source_bytes: Bytes = MAX_BYTES,
    artist_separators: list[str] | None = None,
) -> Best:
    """Ingest, build features, and try settings of one model until there are `trials`; returns the best of them.

    Args:
        task: genre, popularity or multitask.
        model: one that has a search space (tasks/training/tuning.py).
        trials: of this search in all, those of earlier runs included.
        timeout: start no further trial after this many seconds.
        threads: of a trial; by default one per core.
        source: path, URL without secrets, sample[:ROWS] or snapshot:ID; by default $MUSIC_SOURCE, else the sample.
        columns: the file's own names as ours=theirs,... or the path of a TOML file.
        units: of columns in another unit than the project's, as energy=percent,duration_ms=seconds,...
        protocol: how rows are filled and split: a protocol's name.
        warehouse: where data is kept; by default $MUSIC_WAREHOUSE, else ./warehouse.
        max_reject_share: stop if a larger share of the rows has bad values.
        min_genre_rows: genres with fewer valid rows are dropped.
        max_source_bytes: stop if the source holds more, as it is or unpacked: a number or a size such as 20GB.
        artist_separators: what separates several artists in one name, beside lists, ';' and feat., which always do.
    """
    opened = Warehouse.at(warehouse)
    mark_killed_runs(opened)
    spec = tunable(task, model)
    cell = searched(spec, protocol)
    snapshot = ingest_task(
        preparing.default_source(source),
        parse_mapping(columns),
        max_reject_share,
        opened,
        units=parse_units(units),
        required=required_columns([cell]),
        max_bytes=max_source_bytes,
    )
    tables = features_task(snapshot, PROTOCOLS[protocol].name, min_genre_rows, opened, artist_separators or [])
    [job] = make_jobs([cell], tables, "tuning", opened, threads or share_of_cores(1)[1])
    started = time.monotonic()
    with open_search(job, opened) as search, Processes(job.threads, BUDGETS["full"].cell_timeout) as processes:
        cli.tell(f"{search.name}: {search.n_finished} of {trials} trials done before")
        while search.n_finished < trials and (timeout is None or time.monotonic() - started < timeout):
            trial = search.ask()
            began = time.perf_counter()
            outcome = trial_task(trial, processes)
            seconds = time.perf_counter() - began
            search.tell(trial, outcome, seconds)
            shown = f"{search.metric} {outcome.value:.4f}" if outcome.status == "ok" else f"{outcome.error}"
            cli.tell(f"trial {search.n_finished} of {trials}: {shown}, {seconds:.1f} s")
        best = search.best()
    publish_task(snapshot, tables, opened)
    return best


def parser() -> cli.Parser:
    """The command's options."""
    command = cli.source_parser("flows.tune", __doc__, protocol="cold_start", several="")
    add = command.add_argument
    add("--task", required=True, choices=list(tuning.JUDGED_BY), help="what the model predicts")
    add("--model", required=True, help=f"one of {', '.join(tuning.tunable_names())}, without its task")
    add(
        "--trials",
        type=int,
        default=20,
        metavar="N",
        help="of this search in all, earlier runs included; by default 20",
    )
    add("--timeout", type=float, metavar="SECONDS", help="start no further trial after this long; by default no limit")
    add("--threads", type=int, metavar="N", help="of a trial; by default one per core")
    return command


def searched(spec: ModelSpec, protocol: str) -> Cell:
    """What is trained again and again."""
    return Cell(protocol=protocol, task=spec.task, model=spec.model, feature_set="all", seed=STUDY_SEED, budget="full")


def print_best(best: Best) -> None:
    """The best settings on standard output, and how they compare with the committed ones."""
    committed = "failed" if best.committed is None else f"{best.committed:.4f}"
    print(
        f"best of {best.n_finished} trials: validation {best.metric} {best.value:.4f}; committed settings: {committed}"
    )
    print(json.dumps(best.parameters, indent=2))
    print("Every trial: select * from results.trials")


def main() -> int:
    """The command `python -m flows.tune`."""
    options = cli.parameters(parser(), tune)
    cell = searched(tunable(options["task"], options["model"]), options["protocol"])
    given = {name: options[name] for name in preparing.SOURCE_OPTIONS}
    ahead = Preparation.of(**given, required=required_columns([cell]))
    start_server(options["threads"] or share_of_cores(1)[1])
    print_best(server.run_with_prefect(tune, options, ahead.carry_out))
    return 0


if __name__ == "__main__":
    cli.run_command(main)
