"""Search for a model's settings on the validation split. The same command continues an earlier search."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from flows import cli
from flows.holding import holding_warehouse
from flows.options import Command, Outcome
from flows.parameters import (
    SOURCE_BYTES,
    Bytes,
    Columns,
    Count,
    Plugins,
    ProtocolName,
    Seconds,
    Separators,
    SettingsName,
    Share,
    Source,
    TargetName,
    TunableName,
    Units,
    WarehouseName,
)
from tasks.models.spec import ModelSpec
from tasks.specs import BUDGETS, STUDY_SEED, Cell

if TYPE_CHECKING:
    from tasks.training.tuning import Best


@holding_warehouse
def tune(
    *,
    plugins: Plugins = None,
    task: TargetName,
    model: TunableName,
    trials: Count = 20,
    timeout: Seconds | None = None,
    threads: Count | None = None,
    save: SettingsName | None = None,
    source: Source | None = None,
    columns: Columns = "",
    protocol: ProtocolName = "cold_start",
    warehouse: WarehouseName | None = None,
    max_reject_share: Share = 0.05,
    min_genre_rows: Count = 20,
    units: Units = "",
    max_source_bytes: Bytes = SOURCE_BYTES,
    artist_separators: Separators | None = None,
) -> Best:
    """Ingest, build features, and try settings of one model until there are `trials`. The result is the best of them.

    Args:
        task: what the model predicts.
        model: a model that has a search space, without its task.
        trials: trials of this search in all, those of earlier runs included.
        timeout: start no further trial after so many seconds. By default no limit.
        threads: threads of a trial. By default one per core.
        save: save the best settings under this name, for --models MODEL@NAME of flows.benchmark.
        plugins: Python files that add models, feature sets and protocols (docs/plugins.md), besides those of
            $MUSIC_PLUGINS.
        source: CSV, gzipped CSV or Parquet by path or URL, the built-in generated sample, or tracks that were read
            before (snapshot:latest: the published ones). By default $MUSIC_SOURCE, else the sample. Give a URL that
            holds secrets by $MUSIC_SOURCE: a flow run keeps its parameters.
        columns: the file's own column names, as ours=theirs,..., in a TOML file of such pairs, or as the name of a
            public file (tidytuesday).
        protocol: how rows are filled and split: published, label_free or cold_start.
        warehouse: where data is kept, a folder or a URL (s3://bucket/prefix). By default $MUSIC_WAREHOUSE, else
            ./warehouse.
        max_reject_share: stop if a larger share of the rows has bad values.
        min_genre_rows: drop genres with fewer valid rows.
        units: convert columns in another unit, as energy=percent,duration_ms=seconds,... (docs/input.md).
        max_source_bytes: refuse a source that is larger, as it is or unpacked: bytes, or a size such as 20GB.
        artist_separators: what separates several artists in one name, such as ', ' ' & ' ' x ' /. Lists, ';' and feat.
            always do.
    """
    from flows.preparing import Preparation
    from tasks.compute.processes import Processes, share_of_cores
    from tasks.orchestration.crashed_runs import mark_killed_runs
    from tasks.orchestration.prefect_tasks import publish_task, trial_task
    from tasks.storage.warehouse import Warehouse
    from tasks.training import settings
    from tasks.training.jobs import make_jobs
    from tasks.training.needs import required_columns
    from tasks.training.tuning import open_search, tunable

    opened = Warehouse.at(warehouse)
    mark_killed_runs(opened)
    spec = tunable(task, model)
    cell = searched(spec, protocol)
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
        required=required_columns([cell]),
    ).in_flow()
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
    if save is None:
        return best
    return replace(best, saved_in=settings.save(save, best, search.name, job, opened))


def searched(spec: ModelSpec, protocol: str) -> Cell:
    """Returns the cell that each trial trains."""
    return Cell(protocol=protocol, task=spec.task, model=spec.model, feature_set="all", seed=STUDY_SEED, budget="full")


def print_best(best: Best, model: str, save: str | None) -> None:
    """Prints the best settings of a model, the score of the committed ones, and how to train what was found."""
    committed = "failed" if best.committed is None else f"{best.committed:.4f}"
    print(
        f"best of {best.n_finished} trials: validation {best.metric} {best.value:.4f}; committed settings: {committed}"
    )
    print(json.dumps(best.parameters, indent=2))
    print("Every trial: select task, model, value, params from results.trials")
    if save:
        print(f"Saved: {best.saved_in}")
        print(f"Train them beside the committed: python -m flows.benchmark --models {model},{model}@{save}")
    else:
        print("To train them, save them: the same command with --save NAME")


def run(options: dict[str, Any]) -> Outcome:
    """Runs the flow for the command."""
    from flows import server
    from flows.preparing import SOURCE_OPTIONS, Preparation
    from tasks.compute.processes import share_of_cores, start_server
    from tasks.training.needs import required_columns
    from tasks.training.tuning import tunable

    cell = searched(tunable(options["task"], options["model"]), options["protocol"])
    given = {name: options[name] for name in SOURCE_OPTIONS}
    preparation = Preparation.of(**given, required=required_columns([cell]))
    preparation.check()
    start_server(options["threads"] or share_of_cores(1)[1])
    best: Best = server.run_with_prefect(tune, options, preparation.before_flow)
    return Outcome(facts=asdict(best), show=lambda: print_best(best, options["model"], options["save"]))


COMMAND = Command(
    name="tune",
    function=tune,
    run=run,
    kept="Finished trials are kept: the same command goes on from there.",
    starts_server=True,
    examples=("--task genre --model xgboost_tuned --trials 50 --save mine", "--task multitask --model multitask_tuned"),
)

if __name__ == "__main__":
    cli.run_app(COMMAND.app())
