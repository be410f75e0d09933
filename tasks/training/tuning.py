"""Searches for a model's settings with Optuna, scored on the validation split only. A killed search can be resumed.

A search is stored in Optuna's journal file below `tuning/`. Each finished trial is also an immutable Parquet file, for
SQL. The journal is written to a remote warehouse after each trial, before the trial's Parquet file, so any machine can
resume the search.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import pyarrow as pa

from tasks.compute.processes import Outcome
from tasks.errors import UnknownNameError, UserError
from tasks.evaluation import metrics
from tasks.models.registry import MODELS, spec_of
from tasks.models.spec import ModelSpec
from tasks.plugins import load_plugins
from tasks.specs import HEADLINES
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse
from tasks.training import train
from tasks.training.jobs import Job

TRIALS = pa.schema(
    [
        pa.field("study", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("protocol", pa.string(), nullable=False),
        pa.field("feature_version", pa.string(), nullable=False),
        pa.field("number", pa.int64(), nullable=False),
        pa.field("state", pa.string(), nullable=False),  # complete, failed, killed
        pa.field("value", pa.float64()),  # the metric on the validation split; NULL unless complete
        pa.field("metric", pa.string(), nullable=False),
        pa.field("params", pa.string(), nullable=False),  # JSON: all settings of the model, searched or fixed
        pa.field("seconds", pa.float64()),  # duration of the trial; NULL unless complete
        pa.field("started_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
# The metric of a search, by task. For multi-task nets it is accuracy + R2: both are shares, of rows and of variance.
JUDGED_BY: Mapping[str, str] = MappingProxyType(
    {**{str(task): metric.name for task, metric in HEADLINES.items()}, "multitask": "accuracy_plus_r2"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A trial: settings to be tried; small, so that it can be sent to any process."""

    number: int
    job: Job
    parameters: dict[str, Any]


def tunable(task: str, model: str) -> ModelSpec:
    """Returns the registered model of that name. Raises: UnknownNameError: it has no search space."""
    name = f"{task}/{model}"
    if name not in tunable_names():
        raise UnknownNameError("model to tune", name, tunable_names())
    return MODELS[name]


def tunable_names() -> list[str]:
    """Returns the names of the models with a search space, as task/model."""
    return [name for name, spec in MODELS.items() if spec.space]


def validate(trial: Trial) -> float:
    """Fits a model with a trial's settings. Returns: the metric of its task on the validation split."""
    load_plugins(trial.job.plugins)
    spec, cell = spec_of(trial.job.cell), trial.job.cell
    estimator = spec.build(trial.parameters, cell.seed, trial.job.threads)
    with train.opened(trial.job) as data:
        train.fit(estimator, spec, data)
        n_genres = len(trial.job.genres)
        predicted = train.predict_all(estimator, spec, data.x["val"], n_genres)
        scores = {
            name: value
            for target, values in predicted.values.items()
            for name, value in metrics.score(target, data.y[target]["val"], values).items()
        }
    return scores["accuracy"] + scores["r2"] if spec.task == "multitask" else scores[JUDGED_BY[spec.task]]


@dataclass(frozen=True, slots=True)
class Best:
    """The best trial of a search, with the value of the registry's settings for comparison."""

    metric: str
    value: float
    committed: float | None  # the metric with the registry's settings; None if that trial failed
    parameters: dict[str, Any]  # the settings that were searched
    n_finished: int
    saved_in: str | None = None  # the file of these settings, below the warehouse; None: they are not saved


class Search:
    """A search for settings, open in one process at a time (see `open_search`)."""

    def __init__(self, name: str, study: Any, job: Job, warehouse: Warehouse, keep: Callable[[], None]) -> None:
        self.name = name
        self._keep = keep  # stores the journal
        self.metric = JUDGED_BY[job.cell.task]
        self._study = study
        self._job = job
        self._warehouse = warehouse
        self._spec = spec_of(job.cell)
        self._space = self._spec.space
        self._asked: dict[int, Any] = {}
        self._resume()

    @property
    def n_finished(self) -> int:
        """The number of trials that completed or failed; killed trials do not count."""
        return sum(_state(trial) in {"complete", "failed"} for trial in self._study.trials)

    def ask(self) -> Trial:
        """Returns the settings to try next. The registry's settings come first."""
        asked = self._study.ask()
        self._asked[asked.number] = asked
        chosen = {name: values.suggest(asked, name) for name, values in self._space.items()}
        return Trial(number=asked.number, job=self._job, parameters=dict(self._spec.parameters) | chosen)

    def tell(self, trial: Trial, outcome: Outcome, seconds: float) -> None:
        """Records how a trial ended."""
        from optuna.trial import TrialState

        asked = self._asked.pop(trial.number)
        if outcome.status == "ok" and math.isfinite(outcome.value):
            asked.set_user_attr("seconds", seconds)
            self._study.tell(asked, outcome.value)
        else:
            asked.set_user_attr("error", outcome.error or f"its {self.metric} is {outcome.value}")
            self._study.tell(asked, state=TrialState.FAIL)
        self._store()

    def best(self) -> Best:
        """Returns the best trial so far. Raises: UserError: no trial has succeeded."""
        complete = [trial for trial in self._study.trials if _state(trial) == "complete"]
        if not complete:
            errors = [trial.user_attrs["error"] for trial in self._study.trials if _state(trial) == "failed"]
            raise UserError(f"No trial of {self.name} succeeded; the last failed with: {(errors or ['none ran'])[-1]}")
        return Best(
            metric=self.metric,
            value=self._study.best_value,
            committed=next((trial.value for trial in complete if trial.params == self._committed), None),
            parameters=self._study.best_params,
            n_finished=self.n_finished,
        )

    @property
    def _committed(self) -> dict[str, Any]:
        return {name: self._spec.parameters[name] for name in self._space}

    def _resume(self) -> None:
        """Closes the trials that a killed search left open, and queues the registry's settings if not tried yet."""
        from optuna.trial import TrialState

        for trial in self._study.get_trials(states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)
        self._store()
        waiting = self._study.get_trials(states=(TrialState.WAITING,))
        finished = [trial.params for trial in self._study.trials if _state(trial) in {"complete", "failed"}]
        if not waiting and self._committed not in finished:
            self._study.enqueue_trial(self._committed)

    def _store(self) -> None:
        """Stores the journal, then writes a Parquet file for every ended trial that has none yet."""
        self._keep()
        cell = self._job.cell
        stored = set(self._warehouse.files("tuning", "trials"))
        for trial in self._study.trials:
            final = self._warehouse.table("tuning", "trials", f"{self.name}-{trial.number:05d}")
            if not trial.state.is_finished() or final in stored:
                continue
            row = {
                "study": self.name,
                "task": cell.task,
                "model": cell.model,
                "protocol": cell.protocol,
                "feature_version": self._job.feature_version,
                "number": trial.number,
                "state": _state(trial),
                "value": trial.value,
                "metric": self.metric,
                "params": json.dumps(dict(self._spec.parameters) | trial.params, sort_keys=True),
                "seconds": trial.user_attrs.get("seconds"),
                "started_at": trial.datetime_start.astimezone(UTC),
            }
            self._warehouse.write_rows(final, [row], TRIALS)


@contextmanager
def open_search(job: Job, warehouse: Warehouse) -> Iterator[Search]:
    """Starts a search, or resumes the one with the same data, search space, fixed settings and seed.

    Raises: UserError: Optuna is not installed.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise UserError("Tuning needs Optuna, which is not installed. Install it: pip install -e '.[tune]'.") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spec, cell = spec_of(job.cell), job.cell
    space = spec.space
    fixed = {name: value for name, value in spec.parameters.items() if name not in space}
    digest = duck.digest(job.feature_version, json.dumps(fixed, sort_keys=True), repr(dict(space)), cell.seed)
    name = f"{cell.task}-{cell.model}-{cell.protocol}-{digest}"
    journal = warehouse.root / "tuning" / f"{name}.journal"
    with warehouse.appending(journal) as keep:
        Path(f"{journal}.lock").unlink(missing_ok=True)  # Optuna's lock file stays if its holder is killed
        study = optuna.create_study(
            study_name=name,
            storage=JournalStorage(JournalFileBackend(str(journal))),
            direction="maximize" if cell.task == "multitask" or HEADLINES[cell.task].higher_is_better else "minimize",
            load_if_exists=True,
        )
        # A resumed search must not draw the same random numbers again.
        study.sampler = optuna.samplers.TPESampler(seed=cell.seed + len(study.trials))
        yield Search(name, study, job, warehouse, keep)


def _state(trial: Any) -> Literal["complete", "failed", "killed", "open"]:
    if not trial.state.is_finished():
        return "open"
    if trial.state.name == "COMPLETE":
        return "complete"
    return "failed" if "error" in trial.user_attrs else "killed"
