"""Drift: how far tracks differ from others that they should be like.

A new snapshot of a source is compared with the snapshot before it of the same catalogue, and the tracks of a predicted
file with the training rows of the models that predict them. Both sides are as their files have them, so that a missing
value is missing. What was found is stored once (`drift/` in the warehouse), and is a history: results.drift.

The SELECTs of sql/drift/ count each statistic's rows by bins on both sides (reference_rows and current_rows). Every
statistic is judged by the same two: sql/drift/psi.sql and changed_genres.sql, whose heads name the sources.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import NormalDist
from typing import Any, Literal

import duckdb
import pyarrow as pa

from tasks.errors import UserError, one_line
from tasks.features.registry import BuiltTable, read_registry
from tasks.ingest.snapshots import Snapshot, is_stored, stored_snapshots
from tasks.specs import AUDIO_FEATURES
from tasks.storage import duck
from tasks.storage.damage import read_rows
from tasks.storage.warehouse import Warehouse
from tasks.training.catalogues import Catalogues

# Of the PSI. Source: Siddiqi (2006), Credit Risk Scorecards, chapter "Scorecard implementation": below 0.1 no
# significant change, up to 0.25 a small change that needs a look, above it a significant shift.
MODERATE, LARGE = 0.1, 0.25
CHANCE = 0.001  # what is less probable than this, were there no drift, is not called chance
GENRE = "music_genre"
NUMBERS = (*AUDIO_FEATURES, "popularity")
DRIFTED = ("moderate", "large")
TRAINING_TABLES = ("staging.stg_tracks", "features.split_assignment")  # decide which rows a model was trained on
Kind = Literal["source", "predictions"]
DRIFT = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("measured_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("catalogue", pa.string()),
        pa.field("is_generated", pa.bool_(), nullable=False),
        pa.field("snapshot", pa.string()),  # NULL for predictions
        pa.field("reference", pa.string(), nullable=False),  # a snapshot, or the feature version of a model
        pa.field("column_name", pa.string(), nullable=False),
        pa.field("statistic", pa.string(), nullable=False),
        pa.field("genre", pa.string()),
        pa.field("bins", pa.int64(), nullable=False),
        pa.field("n_reference", pa.int64(), nullable=False),
        pa.field("n", pa.int64(), nullable=False),
        pa.field("reference_share", pa.float64()),
        pa.field("share", pa.float64()),
        pa.field("psi", pa.float64()),
        pa.field("psi_expected", pa.float64()),
        pa.field("psi_by_chance", pa.float64()),
        pa.field("psi_corrected", pa.float64()),
        pa.field("status", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """One statistic of one column of compared tracks: columns of results.drift."""

    column_name: str
    statistic: str  # distribution, missing, outside, new genre, vanished genre
    genre: str | None
    bins: int
    n_reference: int
    n: int
    reference_share: float | None
    share: float | None
    psi: float | None
    psi_expected: float | None
    psi_by_chance: float | None
    psi_corrected: float | None
    status: str  # stable, moderate, large, too few rows

    @property
    def is_drifted(self) -> bool:
        """Whether it differs by more than chance explains, and by enough to matter."""
        return self.status in DRIFTED

    @property
    def wording(self) -> str:
        """The column and how it differs, as text for the user."""
        if self.genre is not None:
            return f"{self.statistic} '{one_line(self.genre)[:40]}'"
        if self.statistic == "distribution":
            return f"{self.column_name} (PSI {self.psi_corrected:.2f})"
        before, now = (f"{share or 0:.1%}" for share in (self.reference_share, self.share))
        return f"{self.column_name} ({self.statistic}: {before} before, now {now})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What a comparison of tracks found."""

    kind: Kind
    source: str
    is_generated: bool
    reference: str
    statistics: tuple[Statistic, ...]

    @property
    def drifted(self) -> list[Statistic]:
        """What drifted, the worst first: large before moderate, then by PSI."""
        found = [one for one in self.statistics if one.is_drifted]
        return sorted(found, key=lambda one: (one.status != "large", one.psi is not None, -(one.psi_corrected or 0)))

    @property
    def status(self) -> str:
        """The worst status of a statistic; `too few rows` if there are too few to judge any distribution."""
        found = {one.status for one in self.statistics}
        judged = {one.status for one in self.statistics if one.statistic == "distribution"}
        few = "too few rows" if judged <= {"too few rows"} else "stable"
        return next((level for level in reversed(DRIFTED) if level in found), few)

    @property
    def facts(self) -> dict[str, Any]:
        """The comparison for programs: with what, its status, and what drifted."""
        return {"reference": self.reference, "status": self.status, "drifted": [asdict(one) for one in self.drifted]}

    @property
    def warning(self) -> str | None:
        """What drifted, by name, in one line for the user; None if nothing did."""
        if not self.drifted:
            return None
        parts = [
            f"{level}: {', '.join(named)}"
            for level in reversed(DRIFTED)
            if (named := [one.wording for one in self.drifted if one.status == level])
        ]
        others = f"the snapshot before it, {self.reference}" if self.kind == "source" else "the models' training rows"
        return f"DRIFT: {self.source} differs from {others}. {'; '.join(parts)} (docs/results.md, Drift)"


def measure(connection: duckdb.DuckDBPyConnection, numbers: Sequence[str], *, has_genre: bool) -> list[Statistic]:
    """Compares the relation current_rows of a connection with its reference_rows.

    Memory is bounded: rows are only counted. Makes the tables drift_edges and drift_counts.

    Args: numbers: the columns that are numbers. has_genre: whether to compare music_genre, too.
    """
    names = ("distribution", "missing", "outside", *(["genres"] if has_genre else []))
    columns = [*numbers, *([GENRE] if has_genre else [])]
    edges = duck.render("drift/edges", numbers=numbers)
    connection.execute(f"create or replace temp table drift_edges as {edges}")
    counts = [f"({duck.render(f'drift/{name}', numbers=numbers, columns=columns)})" for name in names]
    connection.execute(f"create or replace temp table drift_counts as {' union all '.join(counts)}")
    return judged(connection)


def judged(connection: duckdb.DuckDBPyConnection) -> list[Statistic]:
    """Returns the statistics of the table drift_counts of a connection, by column; see sql/drift/psi.sql."""
    values: dict[str, object] = {
        "moderate": MODERATE,
        "large": LARGE,
        "chance": CHANCE,
        "z": NormalDist().inv_cdf(1 - CHANCE),
    }
    rows: list[dict[str, Any]] = []
    for name in ("drift/psi", "drift/changed_genres"):
        found = connection.execute(duck.render(name), duck.bound(duck.code(name), values))
        fields = [column[0] for column in found.description or []]
        rows += [dict(zip(fields, row, strict=True)) for row in found.fetchall()]
    return sorted((Statistic(**row) for row in rows), key=lambda one: (one.column_name, one.statistic, one.genre or ""))


def measure_source(snapshot: Snapshot, warehouse: Warehouse) -> Drift | None:
    """Compares a snapshot whose features are built with the one before it, and stores the result.

    Appended tracks are compared with those that they were appended to.

    Returns: the result; None if the snapshot is the first of its catalogue, or the one before it is gone.
    """
    records = stored_snapshots(warehouse)
    parts = records[snapshot.snapshot].parts
    catalogues = Catalogues.of(warehouse)
    catalogue = catalogues.placed(snapshot, warehouse).catalogue
    earlier = list(reversed(parts[:-1])) or _earlier(snapshot.snapshot, catalogue, records, catalogues, warehouse)
    before = next((records[name] for name in earlier if name in records and is_stored(name, warehouse)), None)
    if before is None:
        return None
    with duck.workspace(spill=warehouse.scratch) as connection:
        _define_rows(connection, "reference", before.parts, warehouse)
        _define_rows(connection, "current", parts[-1:], warehouse)
        statistics = measure(connection, NUMBERS, has_genre=True)
    drift = Drift(
        kind="source",
        source=snapshot.source,
        is_generated=snapshot.is_generated,
        reference=before.snapshot,
        statistics=tuple(statistics),
    )
    _store([drift], snapshot.snapshot, catalogue, snapshot.snapshot, warehouse)
    return drift


def source_drift(snapshot: str, warehouse: Warehouse) -> Drift | None:
    """Returns how a snapshot differs from the one before it, as stored; None if it was compared with none."""
    file = warehouse.here(warehouse.table("drift", "source", snapshot))
    rows = read_rows([file], DRIFT, warehouse).to_pylist()
    if not rows:
        return None
    names = Statistic.__dataclass_fields__
    return Drift(
        **{name: rows[0][name] for name in ("kind", "source", "is_generated", "reference")},
        statistics=tuple(Statistic(**{name: row[name] for name in names}) for row in rows),
    )


def measure_predictions(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    tables: Mapping[str, BuiltTable],
    feature_version: str,
    warehouse: Warehouse,
    *,
    is_generated: bool,
) -> Drift:
    """Compares the tracks of a file to predict with a model's training rows; nothing is stored.

    Args: connection: has staging.typed_tracks and raw.rejects of the file. tables: the model's, by name.
    """
    for view, name in zip(("tracks", "split"), TRAINING_TABLES, strict=True):
        duck.view(connection, f"training_{view}", *warehouse.parts(tables[name].path))
    connection.execute(f"create or replace view reference_rows as {duck.render('drift/training_tracks')}")
    typed, rejects = "staging.typed_tracks", "raw.rejects"
    tracks = duck.render("drift/valid_tracks", typed=typed, rejects=rejects)
    connection.execute(f"create or replace view current_rows as {tracks}")
    return Drift(
        kind="predictions",
        source=source,
        is_generated=is_generated,
        reference=feature_version,
        statistics=tuple(measure(connection, AUDIO_FEATURES, has_genre=False)),
    )


def store_predictions(found: Collection[Drift], catalogue: str, warehouse: Warehouse) -> str | None:
    """Stores comparisons of one predicted file.

    Returns: why they are not stored, if the warehouse cannot be written to.
    """
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(3)}"
    try:
        _store(found, None, catalogue, name, warehouse)
    except (OSError, UserError) as error:
        return f"drift: not kept for results.drift ({one_line(error)[:200]})"
    return None


def stored(warehouse: Warehouse) -> pa.Table:
    """Returns every stored comparison, as rows of DRIFT."""
    return read_rows([*warehouse.files("drift", "source"), *warehouse.files("drift", "predictions")], DRIFT, warehouse)


def _store(
    found: Collection[Drift], snapshot: str | None, catalogue: str | None, name: str, warehouse: Warehouse
) -> None:
    """Writes comparisons of the same tracks as one file. Args: name: of the file."""
    now = datetime.now(UTC)
    rows = [
        {
            "kind": drift.kind,
            "measured_at": now,
            "source": drift.source,
            "catalogue": catalogue,
            "is_generated": drift.is_generated,
            "snapshot": snapshot,
            "reference": drift.reference,
            **asdict(statistic),
        }
        for drift in found
        for statistic in drift.statistics
    ]
    [kind] = {drift.kind for drift in found}
    warehouse.write_rows(warehouse.table("drift", kind, name), rows, DRIFT)


def _earlier(
    snapshot: str,
    catalogue: str | None,
    records: Mapping[str, Snapshot],
    catalogues: Catalogues,
    warehouse: Warehouse,
) -> list[str]:
    """Returns the snapshots of a catalogue whose features were first built before those of a snapshot, newest first."""
    built = [row.snapshot for row in read_registry(warehouse) if row.table_name == "staging.stg_tracks"]
    order = list(dict.fromkeys(built))
    return [
        name
        for name in reversed(order[: order.index(snapshot)])
        if name in records and catalogues.of_record(asdict(records[name])) == catalogue
    ]


def _define_rows(connection: duckdb.DuckDBPyConnection, side: str, parts: Sequence[str], warehouse: Warehouse) -> None:
    """Creates the view `<side>_rows` of the valid tracks of parts of a snapshot."""
    tables = {"typed": ("staging", "typed_tracks"), "rejects": ("raw", "rejects")}
    for name, table in tables.items():
        files = [warehouse.table(*table, part) for part in parts]
        warehouse.fetch(files)
        duck.view(connection, f"{side}_{name}", *files)
    tracks = duck.render("drift/valid_tracks", typed=f"{side}_typed", rejects=f"{side}_rejects")
    connection.execute(f"create view {side}_rows as {tracks}")
