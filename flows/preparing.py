"""Code that flows share: the preparation of each protocol."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from flows import cli
from flows.holding import tell_of_upkeep
from tasks.errors import ProtocolError, UserError
from tasks.features import folds, targets
from tasks.features.append import left_out
from tasks.features.artists import normal_separators, unseparated
from tasks.features.build import build_features
from tasks.features.registry import BuiltTable
from tasks.features.tables import rare_genres
from tasks.ingest.columns import parse_mapping
from tasks.ingest.read import Append, check, ingest
from tasks.ingest.snapshots import Snapshot
from tasks.ingest.source_names import default_source
from tasks.ingest.units import parse_units
from tasks.specs import MAX_SOURCE_BYTES, Folds, Statistics, protocols_of
from tasks.storage.warehouse import Warehouse
from tasks.training.drift import Drift, measure_source, source_drift

SOURCE_OPTIONS = (
    "source",
    "columns",
    "protocol",
    "warehouse",
    "max_reject_share",
    "min_genre_rows",
    "max_source_bytes",
    "artist_separators",
    "units",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What a flow reads and which feature tables it builds: the options that all flows on a source share."""

    source: str
    mapping: dict[str, str]
    protocols: list[str]
    warehouse: Warehouse
    max_reject_share: float
    min_genre_rows: int
    max_source_bytes: int
    artist_separators: list[str]
    append: Append | None
    units: dict[str, str]
    required: Collection[str]
    folds: Folds | None = None

    @classmethod
    def of(
        cls,
        source: str | None,
        columns: str | Mapping[str, str],
        protocol: str,
        warehouse: str | None,
        max_reject_share: float,
        min_genre_rows: int,
        max_source_bytes: int = MAX_SOURCE_BYTES,
        artist_separators: list[str] | None = None,
        append_to: str | None = None,
        statistics: Statistics = "relearned",
        units: str | Mapping[str, str] = "",
        required: Collection[str] = (),
        folds: Folds | None = None,
    ) -> Preparation:
        """Returns the preparation that a flow's parameters ask for.

        Args: required: our columns that must have values. folds: of a cross-validation; None: there is none.

        Raises: UserError: an option is wrong.
        """
        return cls(
            source=default_source(source),
            mapping=parse_mapping(columns),
            units=parse_units(units),
            required=required,
            protocols=protocols_of(protocol),
            append=appending(append_to, statistics),
            warehouse=Warehouse.at(warehouse),
            max_reject_share=max_reject_share,
            min_genre_rows=min_genre_rows,
            max_source_bytes=max_source_bytes,
            artist_separators=normal_separators(artist_separators or []),
            folds=folds,
        )

    def check(self) -> None:
        """Raises: UserError: the source can be refused before it is read."""
        check(self.source, self.warehouse, self.append, self.max_source_bytes)

    def in_flow(self) -> tuple[Snapshot, list[BuiltTable]]:
        """Ingests and builds as tasks of the current flow run, and logs there what was found and left out."""
        from prefect import get_run_logger

        from tasks.orchestration.prefect_tasks import features_task, ingest_task

        logger = get_run_logger()
        return self._carry_out(ingest_task, features_task, logger.info, self._alert(logger.warning), known=())

    def here(self, log: Callable[[str], None]) -> tuple[Snapshot, list[BuiltTable]]:
        """Ingests and builds without Prefect. Args: log: is told what was found, left out and read before."""
        return self._here(log, lambda drift, _: log(str(drift.warning)))

    def before_flow(self) -> None:
        """Ingests and builds before the flow, while Prefect's server starts. The flow then reuses the tables.

        So a source can be refused at once. A URL is left to the flow, so that it is fetched only once.
        """
        if "://" not in self.source:
            with self.warehouse.in_use(tell_of_upkeep):
                self._here(cli.tell, self._alert(cli.tell))

    def _here(
        self, log: Callable[[str], None], tell_drift: Callable[[Drift, bool], None]
    ) -> tuple[Snapshot, list[BuiltTable]]:
        known = {file.stem for file in self.warehouse.files("raw", "snapshots")}
        return self._carry_out(ingest, build_features, log, tell_drift, known)

    def _alert(self, log: Callable[[str], None]) -> Callable[[Drift, bool], None]:
        """Returns what tells of a drift: logs it and, if it was not known before, emits an event to Prefect."""

        def tell(drift: Drift, is_new: bool) -> None:
            log(str(drift.warning))
            if is_new:
                from tasks.orchestration.events import emit, source_drifted

                emit(source_drifted([one.wording for one in drift.drifted], drift.source, self.warehouse))

        return tell

    def _carry_out(
        self,
        read: Callable[..., Snapshot],
        build: Callable[..., list[BuiltTable]],
        log: Callable[[str], None],
        tell_drift: Callable[[Drift, bool], None],
        known: Collection[str],
    ) -> tuple[Snapshot, list[BuiltTable]]:
        warehouse = self.warehouse
        share, most = self.max_reject_share, self.max_source_bytes
        snapshot = read(self.source, self.mapping, share, warehouse, self.append, self.units, self.required, most)
        notes = {"generated data": snapshot.is_generated, "read before": snapshot.snapshot in known}
        log(snapshot.summary + "".join(f" [{note}]" for note, holds in notes.items() if holds))
        chosen = (self.min_genre_rows, warehouse, self.artist_separators, self.folds)
        tables = build_each(self.protocols, lambda name: build(snapshot, name, *chosen), log)
        found = [*snapshot.notes, rare_genres(tables, warehouse), unseparated(tables, warehouse)]
        found += [*left_out(tables, warehouse), *folds.left_out(tables, warehouse)]
        for line in (*found, *targets.notes(tables, warehouse)):
            if line:
                log(line)
        known_drift = source_drift(snapshot.snapshot, warehouse)
        drift = known_drift or measure_source(snapshot, warehouse)
        if drift and drift.warning:
            tell_drift(drift, not known_drift)
        return snapshot, tables


def build_each(
    protocols: list[str], build: Callable[[str], list[BuiltTable]], log: Callable[[str], None]
) -> list[BuiltTable]:
    """Builds the tables of all protocols. A protocol that the data does not allow is left out, and logged.

    Raises: ProtocolError: the data allows none of them.
    """
    tables: list[BuiltTable] = []
    refused: list[ProtocolError] = []
    for name in protocols:
        try:
            tables += build(name)
        except ProtocolError as error:
            refused.append(error)
    if not tables:
        raise refused[0]
    for reason in refused:
        log(str(reason))
    return tables


def appending(append_to: str | None, statistics: Statistics) -> Append | None:
    """Returns what the source is appended to, if anything. Raises: UserError: no statistics could be kept."""
    if not append_to and statistics == "kept":
        raise UserError("--statistics kept needs --append-to, the snapshot whose statistics are kept.")
    return Append(append_to, statistics) if append_to else None
