"""The registry of models: the study's settings, and how much less the quick budgets spend on each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Literal

from tasks.errors import UnknownNameError, UserError
from tasks.models import estimators, streaming
from tasks.models.estimators import Parameters
from tasks.specs import BUDGETS, FEATURE_SETS, STUDY_SEED, Cell, FeatureSet, Protocol, Registry, Task, protocol_named

Importance = Literal["impurity", "gain", "coefficient", "permutation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One model for one task.

    `build(parameters, seed, n_jobs)` imports what it needs and returns an unfitted estimator with `fit(x, y)` and
    `predict(x)`; one that watches validation takes its x, and y of each target, by split, to know when to stop. Only
    the parameters decide the result; n_jobs decides how fast it comes.
    """

    model: str
    task: Task
    build: Callable[[Parameters, int, int], Any]
    parameters: Parameters  # the study's; those of group `better` were found by flows/tune.py on validation rows
    quick: Parameters = field(default_factory=dict)  # what quick budgets change of them
    # Of tables too large for memory: how it is fitted to rows on disk, or else why it takes a sample of them instead.
    stream: streaming.Fit | None = None
    needs_memory: str = ""
    feature_sets: tuple[str, ...] = tuple(name for name, chosen in FEATURE_SETS.items() if not chosen.leaks)
    group: Literal["study", "better", "single_head"] = "study"
    is_probe: bool = False  # whether it measures leaks
    watches_validation: bool = False  # whether it is given the validation split besides the training split
    learns_both: bool = False  # whether it is fitted on both targets, whichever it predicts
    libraries: tuple[str, ...] = ("numpy", "scikit-learn")  # whose versions decide the result
    importance: Importance = "permutation"
    dtype: Literal["float32", "float64"] = "float64"  # what it computes in; trees cut features to float32 anyway
    keeps_model: bool = True  # as a file: not what is large, or has no format but pickle
    is_stochastic: bool = True  # whether another seed gives another result
    cost: float  # seconds with all features on one core of a 2026 server, roughly: the dearest cell starts first

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


WHOLE_TREES = "scikit-learn grows trees on rows in memory, and they grow as the rows do"
TARGETS: tuple[Task, ...] = ("genre", "popularity")
GROUPS = ("study", "better", "single_head")
INTELEX = ("numpy", "scikit-learn", "scikit-learn-intelex")
XGBOOST = ("numpy", "xgboost")
KERAS = ("numpy", "tensorflow", "keras")
STUDY_NET = {
    "shared_units": (256, 128),
    "head_units": 64,
    "shared_dropout": 0.3,
    "head_dropout": 0.2,
    "learning_rate": 3e-4,
    "popularity_weight": 5.0,
    "batch_size": 128,
    "epochs": 100,
    "stop_patience": 15,
    "plateau_patience": 8,
    "plateau_factor": 0.5,
}

XGBOOST_GENRE = {
    "n_estimators": 600,
    "learning_rate": 0.03,
    "max_depth": 6,
    "min_child_weight": 10,
    "subsample": 0.7,
    "colsample_bynode": 0.4,
    "reg_lambda": 3.0,
}
XGBOOST_GENRE_QUICK = {"n_estimators": 20}
XGBOOST_POPULARITY = {
    "n_estimators": 600,
    "learning_rate": 0.0265,
    "max_depth": 6,
    "min_child_weight": 3,
    "subsample": 0.56,
    "colsample_bynode": 0.7,
    "reg_lambda": 23.5,
}
XGBOOST_POPULARITY_QUICK = {"n_estimators": 50}
EXTRA_TREES_GENRE = {"n_estimators": 300, "max_features": 0.79, "min_samples_leaf": 8}
EXTRA_TREES_POPULARITY = {"n_estimators": 300, "max_features": 0.6, "min_samples_leaf": 3}
EXTRA_TREES_QUICK = {"n_estimators": 30}
ENCODED_NET = {
    "members": 3,
    "bins": 9,
    "width": 320,
    "depth": 3,
    "head_units": 128,
    "dropout": 0.32,
    "learning_rate": 2.7e-3,
    "weight_decay": 3.5e-3,
    "momentum": 0.998,
    "popularity_weight": 0.3,
    "batch_size": 256,
    "epochs": 20,
    "stop_patience": 6,
}
ENCODED_NET_QUICK = {"members": 1, "epochs": 4}
# By member: its settings, and what quick budgets change of them.
ENSEMBLES: Mapping[Task, Mapping[str, tuple[Parameters, Parameters]]] = {
    "genre": {
        "xgboost_tuned": (XGBOOST_GENRE, XGBOOST_GENRE_QUICK),
        "extra_trees": (EXTRA_TREES_GENRE, EXTRA_TREES_QUICK),
        "multitask_tuned": (ENCODED_NET, ENCODED_NET_QUICK),
    },
    "popularity": {
        "xgboost_tuned": (XGBOOST_POPULARITY, XGBOOST_POPULARITY_QUICK),
        # Grown to single rows, they remember recordings: of use where the same one is on both sides of the split.
        "extra_trees": ({"n_estimators": 300}, EXTRA_TREES_QUICK),
        "multitask_tuned": (ENCODED_NET, ENCODED_NET_QUICK),
    },
}

MODELS = Registry(
    "model",
    ModelSpec(
        model="logistic_regression",
        task="genre",
        build=estimators.logistic_regression,
        stream=streaming.logistic_regression,
        parameters={"max_iter": 500},
        quick={"max_iter": 100},
        importance="coefficient",
        is_stochastic=False,
        cost=1,
    ),
    ModelSpec(
        model="svm",
        task="genre",
        build=estimators.svm,
        needs_memory="its kernel compares every training row with every other",
        parameters={"C": 1.0},  # with an RBF kernel and gamma "scale"
        is_stochastic=False,
        cost=17,
    ),
    ModelSpec(
        model="knn",
        task="genre",
        build=estimators.knn,
        needs_memory="it keeps all training rows and searches them for each new one",
        parameters={"n_neighbors": 5},
        is_stochastic=False,
        cost=2,
    ),
    ModelSpec(
        model="random_forest",
        task="genre",
        build=estimators.forest_classifier,
        needs_memory=WHOLE_TREES,
        keeps_model=False,
        parameters={"n_estimators": 300},
        quick={"n_estimators": 30},
        libraries=INTELEX,
        importance="impurity",
        dtype="float32",
        cost=10,
    ),
    ModelSpec(
        model="xgboost",
        task="genre",
        build=estimators.xgboost_classifier,
        stream=streaming.xgboost,
        parameters={
            "n_estimators": 300,
            "learning_rate": 0.1,
            "max_depth": 6,
            "subsample": 0.8,
            "colsample_bytree": 0.8,
        },
        quick={"n_estimators": 20},
        libraries=XGBOOST,
        is_probe=True,
        importance="gain",
        dtype="float32",
        cost=9,
    ),
    ModelSpec(
        model="mlp",
        task="genre",
        build=estimators.mlp,
        stream=streaming.mini_batches,
        parameters={
            "hidden_layer_sizes": (128, 64),
            "solver": "adam",
            "alpha": 1e-4,
            "learning_rate_init": 1e-3,
            "max_iter": 300,
        },
        quick={"max_iter": 5},
        cost=34,
    ),
    ModelSpec(
        model="linear",
        task="popularity",
        build=estimators.linear,
        stream=streaming.least_squares,
        parameters={},
        importance="coefficient",
        is_stochastic=False,
        cost=0.1,
    ),
    ModelSpec(
        model="ridge",
        task="popularity",
        build=estimators.ridge,
        stream=streaming.least_squares,
        parameters={"alpha": 1.0},
        importance="coefficient",
        is_stochastic=False,
        cost=0.1,
    ),
    ModelSpec(
        model="lasso",
        task="popularity",
        build=estimators.lasso,
        stream=streaming.least_squares,
        parameters={"alpha": 0.001, "max_iter": 5000},
        importance="coefficient",
        is_stochastic=False,
        cost=0.1,
    ),
    ModelSpec(
        model="random_forest",
        task="popularity",
        build=estimators.forest_regressor,
        needs_memory=WHOLE_TREES,
        keeps_model=False,
        parameters={"n_estimators": 1000},
        quick={"n_estimators": 30},
        libraries=INTELEX,
        importance="impurity",
        dtype="float32",
        cost=77,
    ),
    ModelSpec(
        model="gradient_boosting",
        task="popularity",
        build=estimators.gradient_boosting,
        needs_memory=WHOLE_TREES,
        parameters={"n_estimators": 100, "learning_rate": 0.1, "max_depth": 3},
        quick={"n_estimators": 20},
        importance="impurity",
        cost=8,
    ),
    ModelSpec(
        model="xgboost",
        task="popularity",
        build=estimators.xgboost_regressor,
        stream=streaming.xgboost,
        parameters={"n_estimators": 1000, "learning_rate": 0.05, "max_depth": 8, "subsample": 0.8},
        quick={"n_estimators": 50},
        libraries=XGBOOST,
        is_probe=True,
        importance="gain",
        dtype="float32",
        cost=6,
    ),
    ModelSpec(
        model="multitask",
        task="multitask",
        build=estimators.multitask,
        stream=streaming.by_itself,
        parameters=STUDY_NET,
        quick={"epochs": 5},
        feature_sets=("all",),
        libraries=KERAS,
        watches_validation=True,
        cost=43,
    ),
    ModelSpec(
        model="multitask_tuned",
        task="multitask",
        build=estimators.encoded_net,
        stream=streaming.by_itself,
        parameters=ENCODED_NET,
        quick=ENCODED_NET_QUICK,
        feature_sets=("all",),
        group="better",
        libraries=KERAS,
        watches_validation=True,
        cost=60,
    ),
    ModelSpec(
        model="xgboost_tuned",
        task="genre",
        build=estimators.xgboost_classifier,
        stream=streaming.xgboost,
        parameters=XGBOOST_GENRE,
        quick=XGBOOST_GENRE_QUICK,
        feature_sets=("all",),
        group="better",
        libraries=XGBOOST,
        importance="gain",
        dtype="float32",
        cost=19,
    ),
    ModelSpec(
        model="xgboost_tuned",
        task="popularity",
        build=estimators.xgboost_regressor,
        stream=streaming.xgboost,
        parameters=XGBOOST_POPULARITY,
        quick=XGBOOST_POPULARITY_QUICK,
        feature_sets=("all",),
        group="better",
        libraries=XGBOOST,
        importance="gain",
        dtype="float32",
        cost=2,
    ),
    ModelSpec(
        model="extra_trees",
        task="genre",
        build=estimators.extra_trees_classifier,
        needs_memory=WHOLE_TREES,
        keeps_model=False,
        parameters=EXTRA_TREES_GENRE,
        quick=EXTRA_TREES_QUICK,
        feature_sets=("all",),
        group="better",
        importance="impurity",
        dtype="float32",
        cost=14,
    ),
    ModelSpec(
        model="extra_trees",
        task="popularity",
        build=estimators.extra_trees_regressor,
        needs_memory=WHOLE_TREES,
        keeps_model=False,
        parameters=EXTRA_TREES_POPULARITY,
        quick=EXTRA_TREES_QUICK,
        feature_sets=("all",),
        group="better",
        importance="impurity",
        dtype="float32",
        cost=13,
    ),
    *(
        ModelSpec(
            model="ensemble",
            keeps_model=False,
            task=task,
            build=build,
            needs_memory="its extremely randomized trees do: " + WHOLE_TREES,
            parameters={name: settings for name, (settings, _) in ENSEMBLES[task].items()},
            quick={name: {**settings, **quick} for name, (settings, quick) in ENSEMBLES[task].items()},
            feature_sets=("all",),
            group="better",
            libraries=("numpy", "scipy", "scikit-learn", "xgboost", "tensorflow", "keras"),
            watches_validation=True,
            learns_both=True,
            cost=80,
        )
        for task, build in zip(TARGETS, (estimators.genre_ensemble, estimators.popularity_ensemble), strict=True)
    ),
    *(
        ModelSpec(
            model="single_head_net",
            task=task,
            build=estimators.multitask,
            stream=streaming.by_itself,
            parameters=STUDY_NET | {"heads": (task,)},
            quick={"epochs": 5},
            feature_sets=("all",),
            group="single_head",
            libraries=KERAS,
            watches_validation=True,
            cost=40,
        )
        for task in TARGETS
    ),
    *(
        ModelSpec(
            model="single_head_tuned",
            task=task,
            build=estimators.encoded_net,
            stream=streaming.by_itself,
            parameters=ENCODED_NET | {"heads": (task,)},
            quick=ENCODED_NET_QUICK,
            feature_sets=("all",),
            group="single_head",
            libraries=KERAS,
            watches_validation=True,
            cost=55,
        )
        for task in TARGETS
    ),
)


def plan_cells(
    protocols: list[str], budget: str, models: list[str], feature_sets: list[str], seeds: list[int]
) -> list[Cell]:
    """Every cell of the grid, the dearest first. Deterministic models are trained once, as seed 42.

    Args: models: names of models or of groups of them; empty for those a protocol trains by default. feature_sets:
        names to restrict the grid to; empty for all.
    Raises: UnknownNameError: a name that is not registered. UserError: nothing is left to train.
    """
    if any(not 0 <= seed < 2**32 for seed in seeds):
        raise UserError("Seeds must be from 0 to 4294967295.")
    seeds = list(dict.fromkeys(seeds))
    known = sorted({spec.model for spec in MODELS.values()})
    for name in models:
        if name not in [*known, *GROUPS]:
            raise UnknownNameError("model", name, [*known, *GROUPS])
    chosen_sets = [FEATURE_SETS[name].name for name in feature_sets] or list(FEATURE_SETS)
    grid = [
        (spec.cost * _relative_cost(feature_set), protocol.name, spec, feature_set, seed)
        for protocol in map(protocol_named, protocols)
        for spec in MODELS.values()
        if {spec.model, spec.group} & set(models or protocol.default_models)
        for feature_set in chosen_sets
        if _is_trained(spec, FEATURE_SETS[feature_set], protocol)
        for seed in (seeds if spec.is_stochastic else [STUDY_SEED])
    ]
    if not grid:
        asked = {"models": models, "feature sets": feature_sets, "protocols": protocols}
        named = "; ".join(f"{kind} {', '.join(names)}" for kind, names in asked.items() if names)
        raise UserError(f'Nothing to train: no model takes this together: {named}. See README.md, "Words".')
    grid.sort(key=lambda item: -item[0])
    return [
        Cell(
            protocol=protocol,
            task=spec.task,
            model=spec.model,
            feature_set=feature_set,
            seed=seed,
            budget=budget,
        )
        for _, protocol, spec, feature_set, seed in grid
    ]


def _is_trained(spec: ModelSpec, feature_set: FeatureSet, protocol: Protocol) -> bool:
    """Whether a model is trained on a feature set: what measures a leak is for one model, and label_free."""
    if protocol.is_probe:
        return spec.is_probe and feature_set.name == "all"
    if feature_set.leaks:
        return spec.is_probe and spec.task != feature_set.leaks and protocol.name == "label_free"
    return feature_set.name in spec.feature_sets


def spec_of(cell: Cell) -> ModelSpec:
    """The registered model a cell trains."""
    return MODELS[f"{cell.task}/{cell.model}"]


def _relative_cost(feature_set: str) -> float:
    return 1.0 if feature_set in {"all", "pca"} else 0.7
