"""Immutable definitions of the benchmark: audio features, metrics, feature sets, protocols, budgets and cells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar
from typing import Protocol as Shape

from tasks.errors import UnknownNameError

Task = Literal["genre", "popularity", "multitask"]
Split = Literal["train", "val", "test"]
Statistics = Literal["relearned", "kept"]  # of the tracks that others are appended to

# In the column order of the feature tables.
AUDIO_FEATURES = (
    "acousticness",
    "danceability",
    "duration_ms",
    "energy",
    "instrumentalness",
    "key_code",
    "liveness",
    "loudness",
    "mode_code",
    "speechiness",
    "tempo",
    "valence",
)
# Texts that mean a missing value, in upper or lower case, in every column except those of names.
MISSING = ("", "?", "-", "--", "na", "n/a", "#n/a", "<na>", "nan", "none", "null", "[]", "()", "{}", "set()")
EVALUATED = ("val", "test")  # the splits that models are evaluated on
SLICES = ("all", "imputed", "observed")
# Shown with every result of the built-in sample and of models trained on it.
GENERATED = "GENERATED DATA: of the built-in sample; it says nothing about real music."
STUDY_SEED = 42
MAX_SOURCE_BYTES = 20_000_000_000  # of a source, also when unpacked; changed by --max-source-bytes
GRACE_HOURS = 12.0  # for readers of an older publication


class Named(Shape):
    """An object with a name, which can be registered."""

    @property
    def name(self) -> str:
        """The name, unique in its registry."""
        ...


Spec = TypeVar("Spec", bound=Named)


class Registry(Mapping[str, Spec], Generic[Spec]):
    """Specs by name, in the order given. Duplicate names are refused; the error for an unknown name lists the known."""

    def __init__(self, kind: str, *specs: Spec) -> None:
        self._kind = kind
        self._specs: dict[str, Spec] = {}
        for spec in specs:
            self.add(spec)

    def add(self, spec: Spec) -> None:
        """Registers another spec. Raises: ValueError: its name is taken."""
        if spec.name in self._specs:
            raise ValueError(f"{self._kind} '{spec.name}' is registered twice")
        self._specs[spec.name] = spec

    def __getitem__(self, name: str) -> Spec:
        if name not in self._specs:
            raise UnknownNameError(self._kind, name, self._specs)
        return self._specs[name]

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """How a metric is ranked, compared and shown; tasks/evaluation computes it."""

    name: str
    task: Task
    label: str  # shown to readers
    meaning: str  # in the database, and in docs/tables.md
    digits: int  # decimals shown
    higher_is_better: bool = True
    is_headline: bool = False  # models are ranked by it; one metric of each task
    is_listed: bool = True  # shown in printed leaderboards; SQL has every metric
    needs_probabilities: bool = False
    # The function of tasks/evaluation/metrics.py that gives each row's value, for a metric that is their mean. A metric
    # that is no mean has its formulas in that module and in bootstrap.py.
    mean_of: str = ""


METRICS = Registry(
    "metric",
    Metric(
        name="accuracy",
        task="genre",
        label="accuracy",
        meaning="Share of rows whose genre is right.",
        digits=3,
        is_headline=True,
        mean_of="is_right",
    ),
    Metric(
        name="precision_macro",
        task="genre",
        label="macro precision",
        meaning="Mean over genres of the share of predictions of a genre that are right.",
        digits=3,
    ),
    Metric(
        name="recall_macro",
        task="genre",
        label="macro recall",
        meaning="Mean over genres of the share of a genre's rows that are found.",
        digits=3,
    ),
    Metric(
        name="f1_macro",
        task="genre",
        label="macro F1",
        meaning="Mean over genres of F1.",
        digits=3,
    ),
    Metric(
        name="top3_accuracy",
        task="genre",
        label="top-3 accuracy",
        meaning="Share of rows whose genre is among the three most probable.",
        digits=3,
        is_listed=False,
        needs_probabilities=True,
        mean_of="within_top",
    ),
    Metric(
        name="log_loss",
        task="genre",
        label="log loss",
        meaning="Mean negative log probability of the true genre, in nats.",
        digits=3,
        higher_is_better=False,
        is_listed=False,
        needs_probabilities=True,
        mean_of="log_losses",
    ),
    Metric(
        name="ece",
        task="genre",
        label="calibration error",
        meaning="Expected calibration error: mean distance of probability and share that is right.",
        digits=3,
        higher_is_better=False,
        is_listed=False,
        needs_probabilities=True,
    ),
    Metric(
        name="rmse",
        task="popularity",
        label="RMSE",
        meaning="Root mean squared error, in points of popularity.",
        digits=2,
        higher_is_better=False,
        is_headline=True,
    ),
    Metric(
        name="mae",
        task="popularity",
        label="MAE",
        meaning="Mean absolute error, in points of popularity.",
        digits=2,
        higher_is_better=False,
        mean_of="absolute_errors",
    ),
    Metric(
        name="r2",
        task="popularity",
        label="R2",
        meaning="Share of the popularity's variance that is explained.",
        digits=3,
    ),
    Metric(
        name="spearman",
        task="popularity",
        label="Spearman",
        meaning="Spearman's rank correlation of predicted and true popularity.",
        digits=3,
    ),
)
HEADLINES = {metric.task: metric for metric in METRICS.values() if metric.is_headline}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSet:
    """The columns that a model is given: some of a feature table's, or SQL expressions of the audio features."""

    name: str
    # Names in `table`; empty: every principal component of it. Without `table`: the SQL expression of each column.
    columns: tuple[str, ...] | Mapping[str, str]
    table: str | None = None  # in schema `features`; None: the set has a table of its own
    leaks: Task | None = None  # the target that is among the features: a probe, not for the leaderboard

    @property
    def table_name(self) -> str:
        """The name of the feature table that holds the columns."""
        return f"features.{self.table or f'set_{self.name}'}"

    @property
    def expressions(self) -> dict[str, str]:
        """The SQL expression of each column, of a set with a table of its own; a name alone is its own expression."""
        if self.table:
            return {}
        return dict(self.columns if isinstance(self.columns, Mapping) else zip(self.columns, self.columns, strict=True))

    @property
    def audio_features(self) -> set[str]:
        """The audio features from which the columns are made."""
        if not self.columns:
            return set(AUDIO_FEATURES)
        named = set(re.findall(r"\w+", " ".join(self.expressions.values() or self.columns)))
        return {name for name in AUDIO_FEATURES if {name, f"{IN_UNITS}{name}"} & named}


IN_UNITS = "clean_"  # in an expression: before the name of an audio feature that is meant in its unit, not as a z-score
# In the study's order, which decides the random numbers that nets and trees draw.
ALL = (
    "acousticness",
    "danceability",
    "energy",
    "valence",
    "tempo",
    "duration_ms",
    "instrumentalness",
    "liveness",
    "loudness",
    "speechiness",
    "key_code",
    "mode_code",
)
FEATURE_SETS = Registry(
    "feature set",
    FeatureSet(name="all", table="tracks_std", columns=ALL),
    FeatureSet(
        name="core_audio",
        table="tracks_std",
        columns=("acousticness", "danceability", "energy", "valence", "tempo"),
    ),
    FeatureSet(name="rhythm", table="tracks_std", columns=("danceability", "tempo", "energy", "speechiness")),
    FeatureSet(name="pca", table="tracks_pca", columns=()),
    FeatureSet(name="all_with_popularity", table="tracks_std", columns=(*ALL, "popularity"), leaks="popularity"),
    FeatureSet(name="all_with_genre", table="tracks_multitask", columns=ALL, leaks="genre"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How missing values are filled and rows are split."""

    name: str
    description: str
    fill: str  # the SELECT below sql/ that creates features.fill_values
    split: Literal["study", "grouped"]  # see tasks/features/splits.py
    checks: tuple[str, ...]  # SELECTs below sql/checks/; each must return no rows
    default_models: tuple[str, ...] = ("study", "better")  # model groups that are trained by default
    left_out: Literal["recordings", "artists"] | None = None  # leaves out training rows that share one
    is_control: bool = False  # leaves out as many training rows, chosen at random

    @property
    def is_honest(self) -> bool:
        """Whether its models can predict new songs, whose genre is not known: no fill value depends on it."""
        return "labels_unused" in self.checks and not self.is_probe

    @property
    def is_probe(self) -> bool:
        """Whether it only measures a leak: its cells are for results.leak_ledger, not for the leaderboard."""
        return self.left_out is not None

    @property
    def needs_artists(self) -> bool:
        """Whether it separates artists, and so needs a column of artist names."""
        return self.split == "grouped" or self.left_out == "artists"


ALWAYS = ("one_split", "finite")
HONEST = (*ALWAYS, "labels_unused", "learnt_from_training_rows")
LABEL_FREE = "protocols/label_free/fill_values"
PROTOCOLS = Registry(
    "protocol",
    Protocol(
        name="published",
        description="the study's own: missing values filled with the mean of the row's genre, stratified 70/15/15",
        fill="protocols/published/fill_values",
        split="study",
        checks=ALWAYS,
        default_models=("study",),
    ),
    Protocol(
        name="label_free",
        description="the study's split, missing values filled with the mean over the training rows",
        fill=LABEL_FREE,
        split="study",
        checks=HONEST,
    ),
    Protocol(
        name="cold_start",
        description="label-free, and every artist and every duplicated recording is on one side of the split",
        fill=LABEL_FREE,
        split="grouped",
        checks=(*HONEST, "groups_apart"),
    ),
)
# A probe measures how much a leak adds to the scores: label_free without the training rows that cause the leak, and as
# a control label_free without as many training rows chosen at random. The test rows are the same.
PROBES = Registry(
    "probe",
    *(
        Protocol(
            name=f"{left_out}_{'any' if is_control else 'apart'}",
            description=(
                f"label_free, without as many training rows as {left_out}_apart leaves out, chosen at random"
                if is_control
                else f"label_free, without the training rows that share one of the {left_out} of the test rows"
            ),
            fill=LABEL_FREE,
            split="study",
            checks=HONEST if is_control else (*HONEST, f"{left_out}_apart"),
            default_models=("study",),
            left_out=left_out,
            is_control=is_control,
        )
        for left_out in ("recordings", "artists")
        for is_control in (False, True)
    ),
)


def protocol_named(name: str) -> Protocol:
    """Returns the protocol or probe of a name."""
    return PROBES[name] if name in PROBES else PROTOCOLS[name]


MAIN_PROTOCOLS = (*PROTOCOLS,)  # without those of plug-ins
SEVERAL_PROTOCOLS = ("main", "probes", "all")


def protocol_names() -> list[str]:
    """Returns the names that `protocols_of` takes."""
    return [*PROTOCOLS, *PROBES, *SEVERAL_PROTOCOLS]


def protocols_of(name: str) -> list[str]:
    """Returns the protocols of a name: one protocol or probe, the project's own for `main`, every probe, or `all`."""
    several = {"main": [*MAIN_PROTOCOLS], "probes": [*PROBES], "all": [*PROTOCOLS, *PROBES]}
    if name not in protocol_names():
        raise UnknownNameError("protocol", name, protocol_names())
    return several.get(name, [name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much computation a run spends on training. Cells of different budgets are never mixed."""

    name: str
    is_quick: bool = False  # whether models use their reduced settings
    max_train_rows: int | None  # taken from the start of the training split: random order, appended tracks last
    importance_rows: int  # validation rows for permutation importance
    cell_timeout: float  # seconds
    caution: str | None = None  # shown with its figures


BUDGETS = Registry(
    "budget",
    Budget(name="full", max_train_rows=None, importance_rows=500, cell_timeout=3_600.0),
    Budget(
        name="brief",
        is_quick=True,
        max_train_rows=None,
        importance_rows=500,
        cell_timeout=3_600.0,
        caution="Budget brief: models are trained with fewer trees and epochs than the study's. More would do better.",
    ),
    Budget(
        name="smoke",
        is_quick=True,
        max_train_rows=4_000,
        importance_rows=200,
        cell_timeout=120.0,
        caution="Budget smoke: models are trained for seconds on few rows. These figures show that it works, no more.",
    ),
)


@dataclass(frozen=True, slots=True)
class Folds:
    """How a cross-validation divides the tracks."""

    number: int
    seed: int = STUDY_SEED


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One training job: the unit that is trained, cached, timed and reported."""

    protocol: str
    task: Task  # `multitask` is reported under genre and popularity
    model: str
    feature_set: str
    seed: int
    budget: str
    train_rows: int | None = None  # number of training rows, stratified by genre; None: all that the budget allows
    fold: int | None = None  # of a cross-validation, from 1: tested on this fold; None: on the protocol's one split
    folds: int | None = None  # their number
    fold_seed: int | None = None  # by which the tracks were divided into them; None: the study's
    workers: int | None = None  # Dask workers of a distributed fit, each with a share of the rows; None: one process
    settings: str | None = None  # JSON: the parameters of a model with saved settings; None: the registered ones

    @property
    def title(self) -> str:
        """The name shown in the Prefect UI and in the progress display."""
        kind = "" if self.task == "multitask" else f"{self.task} "
        rows = "" if self.train_rows is None else f", {self.train_rows:,} rows"
        fold = "" if self.fold is None else f", fold {self.fold} of {self.folds}"
        fold += "" if self.fold_seed is None else f" by seed {self.fold_seed}"
        workers = "" if self.workers is None else f", {self.workers} workers"
        return f"{kind}{self.model} on {self.feature_set} ({self.protocol}{fold}, seed {self.seed}{rows}{workers})"
