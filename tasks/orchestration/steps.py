"""The steps of a run in their order: record it, train its cells, choose champions, publish, report.

A flow carries out each step as Prefect tasks (flows/fan_out.py), a call from Python as plain functions
(flows/python.py). Nothing here imports Prefect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tasks.errors import one_line
from tasks.features.registry import BuiltTable
from tasks.ingest.snapshots import Snapshot
from tasks.specs import Budget, Cell
from tasks.storage.warehouse import Warehouse
from tasks.training.catalogues import Catalogues
from tasks.training.jobs import Job, make_jobs
from tasks.training.runs import CellOutcome, finish_run, start_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """How each step is carried out, and what results.runs records of that."""

    runner: str  # local or dask
    at_once: int  # cells trained at the same time
    threads: int  # of each cell
    train: Callable[[list[Job]], Iterable[CellOutcome]]
    choose: Callable[[str], list[str]]  # decides on champions by a run's id; returns its decisions in words
    publish: Callable[[Snapshot], object]
    report: Callable[[Snapshot, str], object]  # by the run's id
    tell_of_trial: Callable[[str], object]  # says, before cells are trained, that the run is a trial, and what to do


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How a run ended. Its results are published, even if every cell failed."""

    run_id: str
    status: str  # completed, or failed: every cell
    is_generated: bool  # of the built-in sample
    cells: tuple[CellOutcome, ...] = field(repr=False)
    decisions: tuple[str, ...] = field(repr=False)  # which champions were replaced, in words
    report: Path | None  # one HTML file; None: it could not be written

    @property
    def failures(self) -> tuple[CellOutcome, ...]:
        """The cells that failed or ran out of time, each with its error."""
        return tuple(cell for cell in self.cells if cell.status != "ok")

    @property
    def summary(self) -> str:
        """How many cells there are, and where the report is, in one line."""
        n, reused = len(self.cells), sum(cell.reused for cell in self.cells)
        line = f"{n - len(self.failures)} of {n} cells ok, {reused} reused"
        return f"{line}; report {self.report}" if self.report else line

    @property
    def why_failed(self) -> str:
        """Why the run is `failed`, in one line."""
        return f"every cell failed, the first with: {self.failures[0].error}"


def carry_out(
    cells: list[Cell],
    snapshot: Snapshot,
    tables: list[BuiltTable],
    budget: Budget,
    steps: Steps,
    warehouse: Warehouse,
    *,
    chooses_champions: bool,
    as_current: bool = False,
    flow_run_id: str | None = None,
) -> RunOutcome:
    """Trains a run's cells and writes the report. Results are recorded and published however the run ends.

    Args: chooses_champions: let the run's best models challenge the champions of its catalogue. as_current: make its
        catalogue the current one, once it is completed. flow_run_id: the id of Prefect's run.
    """
    catalogues = Catalogues.of(warehouse)
    snapshot = catalogues.placed(snapshot, warehouse)
    if trial := None if as_current else catalogues.trial(snapshot):
        steps.tell_of_trial(trial)
    run = start_run(
        snapshot,
        budget.name,
        warehouse,
        flow_run_id,
        runner=steps.runner,
        cells_at_once=steps.at_once,
        threads_per_cell=steps.threads,
        as_current=as_current,
    )
    outcomes: list[CellOutcome] = []
    status = "interrupted"
    try:
        for outcome in steps.train(make_jobs(cells, tables, run.run_id, warehouse, steps.threads)):
            outcomes.append(outcome)  # noqa: PERF402 - outcomes so far must survive an interruption
        status = "completed" if any(outcome.status == "ok" for outcome in outcomes) else "failed"
    except Exception:
        status = "failed"
        raise
    finally:
        finish_run(run, status, outcomes, warehouse)
        challenges = chooses_champions and status == "completed"
        decided = _decisions(run.run_id, steps) if challenges else []
        steps.publish(snapshot)
    now = Catalogues.of(warehouse).current
    if catalogues.current and now != catalogues.current:
        decided.insert(0, f"The current catalogue of the warehouse is now {now}; it was {catalogues.current}.")
    steps.report(snapshot, run.run_id)
    report = warehouse.report(run.run_id)
    return RunOutcome(
        run_id=run.run_id,
        status=status,
        is_generated=snapshot.is_generated,
        cells=tuple(outcomes),
        decisions=tuple(f"Trial: {line}" if trial else line for line in decided),
        report=report if report.exists() else None,
    )


def _decisions(run_id: str, steps: Steps) -> list[str]:
    """Returns what was decided on the champions; an error does not fail the run, which is done."""
    try:
        return steps.choose(run_id)
    except Exception as error:  # noqa: BLE001 - any
        return [f"No champion was chosen: {one_line(error)}"]
