"""The Prefect tasks: thin wrappers around the steps that the UI shows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.compute.processes import Outcome, Processes
from tasks.compute.progress import CellProgress
from tasks.errors import DownloadError
from tasks.features import build
from tasks.features.registry import BuiltTable
from tasks.ingest import read
from tasks.ingest.snapshots import Snapshot
from tasks.orchestration import artifacts, pages
from tasks.prediction import batch, champions
from tasks.results import publish
from tasks.specs import MAX_SOURCE_BYTES, Folds
from tasks.storage.warehouse import Warehouse
from tasks.training import cell_files, dask_worker, drift, local, tuning
from tasks.training.jobs import Job
from tasks.training.runs import CellOutcome
from tasks.training.tuning import Trial
from tasks.upkeep import cleanup
from tasks.upkeep.cleanup import CleanupOutcome
from tasks.upkeep.policy import Policy


class CellError(Exception):
    """Raised if a cell did not finish: its task run fails; `outcome` is its row for results.cells."""

    def __init__(self, outcome: CellOutcome) -> None:
        super().__init__(outcome)  # the only argument, so that a worker can pickle the error
        self.outcome = outcome

    def __str__(self) -> str:
        return str(self.outcome.error)


def _is_worth_a_retry(task: Any, run: Any, state: State) -> bool:
    return isinstance(state.result(raise_on_failure=False), DownloadError)


@task(
    name="ingest",
    task_run_name="ingest",
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=_is_worth_a_retry,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def ingest_task(
    source: str,
    mapping: dict[str, str],
    max_reject_share: float,
    warehouse: Warehouse,
    append: read.Append | None = None,
    units: Mapping[str, str] = MappingProxyType({}),
    required: Collection[str] = (),
    max_bytes: int = MAX_SOURCE_BYTES,
) -> Snapshot:
    """See tasks.ingest.read.ingest."""
    return read.ingest(source, mapping, max_reject_share, warehouse, append, units, required, max_bytes)


@task(name="features", task_run_name="features {protocol}", cache_policy=NO_CACHE, persist_result=False)
def features_task(
    snapshot: Snapshot,
    protocol: str,
    min_genre_rows: int,
    warehouse: Warehouse,
    artist_separators: list[str],
    folds: Folds | None = None,
) -> list[BuiltTable]:
    """See tasks.features.build.build_features."""
    return build.build_features(snapshot, protocol, min_genre_rows, warehouse, artist_separators, folds)


@task(name="train", task_run_name="{job.cell.title}", cache_policy=NO_CACHE, persist_result=False)
def train_task(job: Job, refresh: bool, processes: Processes, progress: CellProgress) -> State[CellOutcome]:
    """Trains a cell in a separate process, unless its result is stored and `refresh` is off.

    Raises: CellError: the cell failed, ran out of time or was killed.
    """
    return _trained(job, refresh, lambda: local.in_process(job, processes, progress))


@task(name="train", task_run_name="{job.cell.title}", cache_policy=NO_CACHE, persist_result=False)
def train_on_worker_task(job: Job, refresh: bool, timeout: float, memory: float | None) -> State[CellOutcome]:
    """Trains a cell like `train_task`, on the Dask worker that runs this task. Raises: CellError: as there."""
    return _trained(job, refresh, lambda: dask_worker.train_here(job, timeout, memory))


def _trained(job: Job, refresh: bool, train: Callable[[], Outcome]) -> State[CellOutcome]:
    """Returns the state of a task run that trains a cell unless it is stored. Raises: CellError: it was not trained."""
    artifacts.tag_cell(job.cell)
    outcome = local.trained(job, train, refresh=refresh)
    if outcome.status != "ok":
        raise CellError(outcome)
    if outcome.reused:
        return Completed(name="Reused", message=f"trained before: {outcome.result}", data=outcome)
    if sample := cell_files.sample_of(job.result, Warehouse.at(job.warehouse)):
        get_run_logger().warning("%s: %s", job.cell.title, sample)
    return Completed(data=outcome)


@task(name="trial", task_run_name="trial {trial.number}", cache_policy=NO_CACHE, persist_result=False)
def trial_task(trial: Trial, processes: Processes) -> Outcome:
    """Tries settings in a separate process; the outcome's value is the validation metric."""
    return processes.run(tuning.validate, trial, Warehouse.at(trial.job.warehouse).temporary("log"))


@task(name="champions", task_run_name="champions", cache_policy=NO_CACHE, persist_result=False)
def champions_task(run_id: str, threads: int, warehouse: Warehouse) -> list[str]:
    """See tasks.prediction.champions.choose."""
    return champions.choose(run_id, warehouse, threads)


@task(
    name="predict",
    task_run_name="predict",
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=_is_worth_a_retry,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def predict_task(
    tracks: str,
    out: str | None,
    warehouse: Warehouse,
    model: str | None,
    columns: dict[str, str],
    strict: bool,
    units: dict[str, str],
    min_features: int,
    max_bytes: int,
) -> batch.PredictionOutcome:
    """See tasks.prediction.batch.predict_file; posts how the tracks differ from the models' training rows."""
    outcome = batch.predict_file(
        tracks,
        out,
        warehouse,
        model,
        columns,
        strict=strict,
        units=units,
        min_features=min_features,
        max_bytes=max_bytes,
    )
    artifacts.post(lambda: map(pages.drift_page, outcome.drifts))
    return outcome


@task(name="publish", task_run_name="publish", cache_policy=NO_CACHE, persist_result=False)
def publish_task(snapshot: Snapshot, tables: list[BuiltTable], warehouse: Warehouse) -> Path:
    """See tasks.results.publish.publish."""
    return publish.publish(snapshot, tables, warehouse)


@task(name="report", task_run_name="report", cache_policy=NO_CACHE, persist_result=False)
def report_task(snapshot: Snapshot, tables: list[BuiltTable], run_id: str | None, warehouse: Warehouse) -> None:
    """Posts the input's data quality and drift; for a run posts its results, too, and writes its report."""
    makers: list[Callable[[], list[pages.ArtifactPage]]] = [lambda: [pages.quality_page(snapshot, tables, warehouse)]]
    if found := drift.source_drift(snapshot.snapshot, warehouse):
        makers.append(lambda: [pages.drift_page(found)])
    if run_id:
        makers += [lambda: pages.run_pages(run_id, warehouse), lambda: pages.report_page(run_id, warehouse)]
    artifacts.post(*makers)


@task(name="upkeep", cache_policy=NO_CACHE, persist_result=False)
def upkeep_task(
    policy: Policy, wait: float, on_wait: Callable[[], None], warehouse: Warehouse, *, dry_run: bool
) -> CleanupOutcome:
    """See tasks.upkeep.cleanup.tidy."""
    return cleanup.tidy(policy, wait, on_wait, warehouse, dry_run=dry_run)
