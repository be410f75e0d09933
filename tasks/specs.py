"""What the program knows: audio features, feature sets, protocols, budgets and cells, as frozen data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar
from typing import Protocol as Shape

from tasks.errors import UnknownNameError

Task = Literal["genre", "popularity", "multitask"]
Split = Literal["train", "val", "test"]

# In the order of feature tables' columns.
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
# Texts that say that there is no value, in whatever case: the same in every column but those of names.
MISSING = ("", "?", "-", "--", "na", "n/a", "#n/a", "<na>", "nan", "none", "null", "[]", "()", "{}", "set()")
EVALUATED = ("val", "test")  # the splits that models are judged on
SLICES = ("all", "imputed", "observed")
# Wherever results of the sample, or of a model of it, are shown.
GENERATED = "GENERATED DATA: of the built-in sample; it says nothing about real music."
STUDY_SEED = 42


class Named(Shape):
    """Anything with a name can be registered."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...


Spec = TypeVar("Spec", bound=Named)


class Registry(Mapping[str, Spec], Generic[Spec]):
    """Specs by name, in the order given; refuses duplicates, and unknown names with the list of known ones."""

    def __init__(self, kind: str, *specs: Spec) -> None:
        self._kind = kind
        self._specs: dict[str, Spec] = {}
        for spec in specs:
            if spec.name in self._specs:
                raise ValueError(f"{kind} '{spec.name}' is registered twice")
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
    """A figure of how good predictions are, as it is ranked, compared and shown. What it is: tasks/evaluation."""

    name: str
    task: Task
    label: str  # as people read it
    digits: int  # shown
    higher_is_better: bool = True
    is_headline: bool = False  # models are ranked by it: one a task
    is_listed: bool = True  # in leaderboards for people; in SQL all are
    needs_probabilities: bool = False


METRICS = Registry(
    "metric",
    Metric(name="accuracy", task="genre", label="accuracy", digits=3, is_headline=True),
    Metric(name="precision_macro", task="genre", label="macro precision", digits=3),
    Metric(name="recall_macro", task="genre", label="macro recall", digits=3),
    Metric(name="f1_macro", task="genre", label="macro F1", digits=3),
    Metric(
        name="top3_accuracy",
        task="genre",
        label="top-3 accuracy",
        digits=3,
        is_listed=False,
        needs_probabilities=True,
    ),
    Metric(
        name="log_loss",
        task="genre",
        label="log loss",
        digits=3,
        higher_is_better=False,
        is_listed=False,
        needs_probabilities=True,
    ),
    Metric(
        name="ece",
        task="genre",
        label="calibration error",
        digits=3,
        higher_is_better=False,
        is_listed=False,
        needs_probabilities=True,
    ),
    Metric(name="rmse", task="popularity", label="RMSE", digits=2, higher_is_better=False, is_headline=True),
    Metric(name="mae", task="popularity", label="MAE", digits=2, higher_is_better=False),
    Metric(name="r2", task="popularity", label="R2", digits=3),
    Metric(name="spearman", task="popularity", label="Spearman", digits=3),
)
HEADLINES = {metric.task: metric for metric in METRICS.values() if metric.is_headline}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSet:
    """A named subset of a feature table's columns."""

    name: str
    table: str  # in schema `features`
    columns: tuple[str, ...]  # empty: every principal component the table has
    leaks: Task | None = None  # the target that stands among the features: a probe, not for the leaderboard

    def columns_in(self, table_columns: list[str]) -> list[str]:
        """The columns to train on, given those of the table."""
        if self.leaks == "genre":
            return [
                *self.columns,
                *(name for name in table_columns if name.startswith("genre_") and name != "genre_id"),
            ]
        components = [name for name in table_columns if name.startswith("pc") and name[2:].isdigit()]
        return list(self.columns) or components


# The order is the study's: nets and trees draw their random numbers by it.
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
    fill: str  # the SELECT below sql/ that makes features.fill_values
    split: Literal["study", "grouped"]  # see tasks/features/splits.py
    checks: tuple[str, ...]  # below sql/checks/, each must return no rows
    default_models: tuple[str, ...] = ("study", "better")  # the groups that are trained when none is named
    left_out: Literal["recordings", "artists"] | None = None  # training rows that share one with a test row
    is_control: bool = False  # leave out as many training rows, but any

    @property
    def is_probe(self) -> bool:
        """Whether it only measures a leak: one model, for results.leak_ledger, not for the leaderboard."""
        return self.left_out is not None

    @property
    def needs_artists(self) -> bool:
        """Whether it keeps artists apart."""
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
# What a leak is worth, measured: label_free with those training rows left out that cause it, and beside it with as many
# left out at random, for the same test rows.
PROBES = Registry(
    "probe",
    *(
        Protocol(
            name=f"{left_out}_{'any' if is_control else 'apart'}",
            description=(
                f"label_free, as many training rows left out as in {left_out}_apart, but any"
                if is_control
                else f"label_free, training rows left out that share one of the {left_out} of the test rows"
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
    """A protocol or a probe."""
    return PROBES[name] if name in PROBES else PROTOCOLS[name]


SEVERAL_PROTOCOLS: Mapping[str, list[str]] = {"all": [*PROTOCOLS, *PROBES], "probes": [*PROBES]}


def protocols_of(name: str) -> list[str]:
    """What a name stands for: a protocol or probe itself, `probes`, or every protocol and probe for `all`."""
    if name in SEVERAL_PROTOCOLS:
        return SEVERAL_PROTOCOLS[name]
    if name not in [*PROTOCOLS, *PROBES]:
        raise UnknownNameError("protocol", name, [*PROTOCOLS, *PROBES, *SEVERAL_PROTOCOLS])
    return [name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much training to spend. Cells of different budgets never mix."""

    name: str
    is_quick: bool = False  # whether each model's settings are those that spend less
    max_train_rows: int | None  # the first rows of the training split: in random order, tracks appended later last
    importance_rows: int  # validation rows that permutation importance looks at
    cell_timeout: float  # seconds
    caution: str | None = None  # what a reader of its figures must know


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The unit that is trained, cached, timed and reported."""

    protocol: str
    task: Task  # `multitask` reports under genre and popularity
    model: str
    feature_set: str
    seed: int
    budget: str
    train_rows: int | None = None  # so many of the training rows, stratified by genre; None: all that the budget allows
    workers: int | None = (
        None  # of a Dask cluster, which fit it together, each to its share of the rows; None: one process
    )

    @property
    def title(self) -> str:
        """As people read it in the Prefect UI and in the progress display."""
        kind = "" if self.task == "multitask" else f"{self.task} "
        rows = "" if self.train_rows is None else f", {self.train_rows:,} rows"
        workers = "" if self.workers is None else f", {self.workers} workers"
        return f"{kind}{self.model} on {self.feature_set} ({self.protocol}, seed {self.seed}{rows}{workers})"
