"""What a model is: how it is built, with which settings, how it is fitted, and which settings a search tries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Literal

from tasks.models.rows import Rows
from tasks.specs import BUDGETS, FEATURE_SETS, Task

Parameters = Mapping[str, Any]
BySplit = Mapping[str, Rows]
Fit = Callable[..., None]  # (unfitted estimator, x by split, each target by split)
Importance = Literal["impurity", "gain", "coefficient", "permutation"]
Group = Literal["study", "better", "single_head"]
TARGETS: tuple[Task, ...] = ("genre", "popularity")
# Why forests and boosted trees of scikit-learn are fitted to a sample of a large table.
WHOLE_TREES = "scikit-learn grows trees on rows in memory, and they grow as the rows do"


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The values that a search tries for one setting, bounds included: whole numbers if the bounds are."""

    low: float
    high: float
    log: bool = False
    step: int | None = None  # between whole numbers

    def suggest(self, trial: Any, name: str) -> float:
        """What an Optuna trial shall take."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return int(trial.suggest_int(name, self.low, self.high, log=self.log, step=self.step or 1))
        return float(trial.suggest_float(name, self.low, self.high, log=self.log))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One model for one task. Everything that a family's file says of it is here.

    `build(parameters, seed, n_jobs)` imports what it needs and returns an unfitted estimator with `fit(x, y)` and
    `predict(x)`. An estimator that watches validation takes its x, and y of each target, by split. Only the parameters
    decide the result; n_jobs decides how fast it comes.
    """

    model: str
    task: Task
    build: Callable[[Parameters, int, int], Any]
    parameters: Parameters  # the study's; those of group `better` were found by flows/tune.py on validation rows
    quick: Parameters = field(default_factory=dict)  # what quick budgets change of them
    space: Mapping[str, Range] = field(default_factory=dict)  # what flows/tune.py searches; empty: it is not tuned
    # Of tables too large for memory: how it is fitted to rows on disk, or else why it is fitted to a sample of them.
    fit_out_of_core: Fit | None = None
    needs_memory: str = ""
    feature_sets: tuple[str, ...] = tuple(name for name, chosen in FEATURE_SETS.items() if not chosen.leaks)
    group: Group = "study"
    is_probe: bool = False  # whether it measures leaks
    watches_validation: bool = False  # whether it is given the validation split besides the training split
    learns_both: bool = False  # whether it is fitted on both targets, whichever it predicts
    libraries: tuple[str, ...] = ("numpy", "scikit-learn")  # whose versions decide the result
    importance: Importance = "permutation"
    dtype: Literal["float32", "float64"] = "float64"  # what it computes in; trees cut features to float32 anyway
    keeps_model: bool = True  # as a file: not what is large, or has no format but pickle
    trusted_types: tuple[str, ...] = ()  # that its file holds, beside those that skops trusts by itself
    is_stochastic: bool = True  # whether another seed gives another result
    cost: float  # seconds with all features on one core of a 2026 server, roughly: the most expensive starts first

    @property
    def name(self) -> str:
        """Unique over the registry."""
        return f"{self.task}/{self.model}"

    @property
    def targets(self) -> tuple[Task, ...]:
        """What it is fitted on."""
        return TARGETS if self.task == "multitask" or self.learns_both else (self.task,)

    def parameters_for(self, budget: str) -> dict[str, Any]:
        """The settings under a budget."""
        return {**self.parameters, **(self.quick if BUDGETS[budget].is_quick else {})}

    def versions(self) -> dict[str, str]:
        """The installed versions of the libraries that decide the result."""
        return {name: _version(name) for name in self.libraries}


def _version(distribution: str) -> str:
    for name in (distribution, f"{distribution}-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "not installed"
