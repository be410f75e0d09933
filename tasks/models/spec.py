"""The specification of a model: how it is built and fitted, its settings, and the settings that a search tries."""

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
SCORED_BY = ("numpy", "scikit-learn", "scipy")  # the libraries that compute metrics, whatever the model
TARGETS: tuple[Task, ...] = ("genre", "popularity")
# The reason why scikit-learn's forests and boosted trees are fitted to a sample of a large table.
WHOLE_TREES = "scikit-learn grows trees from rows in memory, and more rows make larger trees"


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The values that a search tries for one setting, bounds included; integers if both bounds are."""

    low: float
    high: float
    log: bool = False
    step: int | None = None  # of integers

    def suggest(self, trial: Any, name: str) -> float:
        """Returns the value that an Optuna trial suggests for this setting."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return int(trial.suggest_int(name, self.low, self.high, log=self.log, step=self.step or 1))
        return float(trial.suggest_float(name, self.low, self.high, log=self.log))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One model for one task, as its family's file declares it.

    `build(parameters, seed, n_jobs)` imports what it needs and returns an unfitted estimator with `fit(x, y)` and
    `predict(x)`. The `fit` of an estimator that watches validation takes x, and y of each target, as dictionaries by
    split. The parameters and the seed decide the result; n_jobs decides only the speed.
    """

    model: str
    task: Task
    build: Callable[[Parameters, int, int], Any]
    parameters: Parameters  # the study's; those of group `better` were found by flows/tune.py on validation rows
    quick: Parameters = field(default_factory=dict)  # the settings that quick budgets replace
    space: Mapping[str, Range] = field(default_factory=dict)  # what flows/tune.py searches; empty: not tuned
    # For tables too large for memory: how the model is fitted to rows on disk, or why it is fitted to a sample of them.
    fit_out_of_core: Fit | None = None
    needs_memory: str = ""
    feature_sets: tuple[str, ...] = tuple(name for name, chosen in FEATURE_SETS.items() if not chosen.leaks)
    group: Group = "study"
    is_probe: bool = False  # whether it measures leaks
    watches_validation: bool = False  # whether `fit` also takes the validation split
    # Whether it is a multi-task model that is fitted on the validation rows, too. `fit` then takes by split x, genre,
    # popularity and the group of each row. The fitted estimator has `held_out`, its outputs of the validation rows out
    # of fold, and `predict_out_of_fold(x, rows)` (see StackedEnsemble).
    cross_fits: bool = False
    libraries: tuple[str, ...] = ("numpy", "scikit-learn")  # the libraries whose versions decide the result
    importance: Importance = "permutation"
    dtype: Literal["float32", "float64"] = "float64"  # what it computes in; tree libraries use float32 anyway
    keeps_model: bool = True  # whether its file is stored; not if it is large, or can only be pickled
    trusted_types: tuple[str, ...] = ()  # types in its file that skops does not trust by default
    is_stochastic: bool = True  # whether the seed changes the result
    cost: float  # approximate seconds with all features on one core of a 2026 server; expensive cells start first

    def __post_init__(self) -> None:
        """Raises: ValueError: a model cross-fits for one task, or where validation rows must not be trained on."""
        if self.cross_fits and (self.task != "multitask" or self.space or self.fit_out_of_core or self.is_probe):
            raise ValueError(f"{self.name}: cross_fits needs task multitask, without space, fit_out_of_core, is_probe")

    @property
    def name(self) -> str:
        """The model's unique name in the registry: task/model."""
        return f"{self.task}/{self.model}"

    @property
    def targets(self) -> tuple[Task, ...]:
        """The targets on which the model is fitted."""
        return TARGETS if self.task == "multitask" else (self.task,)

    def parameters_for(self, budget: str) -> dict[str, Any]:
        """Returns the model's settings under a budget."""
        return {**self.parameters, **(self.quick if BUDGETS[budget].is_quick else {})}

    def versions(self) -> dict[str, str]:
        """Returns the installed versions of the libraries that train or score the model, by library."""
        return {name: _version(name) for name in (*SCORED_BY, *self.libraries)}


def _version(distribution: str) -> str:
    for name in (distribution, f"{distribution}-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "not installed"
