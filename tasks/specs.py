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
SLICES = ("all", "imputed", "observed")
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

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSet:
    """A named subset of a feature table's columns."""

    name: str
    table: str  # in schema `features`
    columns: tuple[str, ...]  # empty: every principal component the table has

    def columns_in(self, table_columns: list[str]) -> list[str]:
        """The columns to train on, given those of the table."""
        components = [name for name in table_columns if name.startswith("pc") and name[2:].isdigit()]
        return list(self.columns) or components


FEATURE_SETS = Registry(
    "feature set",
    # The order of columns is the study's: nets and trees draw their random numbers by it.
    FeatureSet(
        name="all",
        table="tracks_std",
        columns=(
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
        ),
    ),
    FeatureSet(
        name="core_audio",
        table="tracks_std",
        columns=("acousticness", "danceability", "energy", "valence", "tempo"),
    ),
    FeatureSet(name="rhythm", table="tracks_std", columns=("danceability", "tempo", "energy", "speechiness")),
    FeatureSet(name="pca", table="tracks_pca", columns=()),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How missing values are filled and rows are split; its own SQL lies in `sql/protocols/<name>/`."""

    name: str
    description: str


PROTOCOLS = Registry(
    "protocol",
    Protocol(
        name="published",
        description="the study's own: missing values filled with the mean of the row's genre, stratified 70/15/15",
    ),
)


def protocols_of(name: str) -> list[str]:
    """The protocols that a name stands for: itself, or every one for `all`."""
    if name == "all":
        return list(PROTOCOLS)
    if name not in list(PROTOCOLS):
        raise UnknownNameError("protocol", name, [*PROTOCOLS, "all"])
    return [name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much training to spend. Cells of different budgets never mix."""

    name: str
    max_train_rows: int | None  # the first rows of the training split, which is in random order
    importance_rows: int  # validation rows that permutation importance looks at
    cell_timeout: float  # seconds


BUDGETS = Registry(
    "budget",
    Budget(name="full", max_train_rows=None, importance_rows=500, cell_timeout=3_600.0),
    Budget(name="smoke", max_train_rows=4_000, importance_rows=200, cell_timeout=120.0),
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

    @property
    def title(self) -> str:
        """As people read it in the Prefect UI and in the progress display."""
        kind = "" if self.task == "multitask" else f"{self.task} "
        return f"{kind}{self.model} on {self.feature_set} ({self.protocol}, seed {self.seed})"
