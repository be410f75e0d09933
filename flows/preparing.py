"""What the bodies of flows share: the lock that upkeep respects, the source, and tables protocol by protocol."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from flows import cli
from tasks.errors import ProtocolError, UserError
from tasks.features import targets
from tasks.features.append import left_out
from tasks.features.artists import normal_separators, unseparated
from tasks.features.build import build_features
from tasks.features.registry import BuiltTable
from tasks.features.tables import rare_genres
from tasks.ingest.columns import parse_mapping
from tasks.ingest.read import Append, check, ingest
from tasks.ingest.snapshots import Statistics
from tasks.ingest.sources import MAX_BYTES
from tasks.ingest.units import parse_units
from tasks.specs import protocols_of
from tasks.storage.warehouse import Warehouse

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
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


def holding_warehouse(body: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Of a flow with a parameter `warehouse`: while it runs, upkeep removes nothing that it may have found there."""
    signature = inspect.signature(body, eval_str=True)  # Prefect would look the names of types up in this module

    @functools.wraps(body)
    def held(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        warehouse = Warehouse.at(signature.bind(*args, **kwargs).arguments.get("warehouse"))
        with warehouse.in_use(_tell_of_upkeep):
            return body(*args, **kwargs)

    held.__signature__ = signature  # type: ignore[attr-defined]
    return held


def _tell_of_upkeep() -> None:
    cli.tell("Waiting for upkeep of another machine to end ...")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What a command ingests and builds ahead of its flow, which then finds it done."""

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

    @classmethod
    def of(
        cls,
        source: str | None,
        columns: str,
        protocol: str,
        warehouse: str | None,
        max_reject_share: float,
        min_genre_rows: int,
        max_source_bytes: int = MAX_BYTES,
        artist_separators: list[str] | None = None,
        append_to: str | None = None,
        statistics: Statistics = "relearned",
        units: str = "",
        required: Collection[str] = (),
    ) -> Preparation:
        """What a flow's parameters ask for.

        Args: required: our columns that must have values.
        Raises: UserError: they can be refused before the source is read.
        """
        asked = cls(
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
        )
        check(asked.source, asked.warehouse, asked.append, max_source_bytes)
        return asked

    def carry_out(self) -> None:
        """Ingest and build. A source elsewhere is left to the flow, so that it is fetched once.

        Raises: UserError: the source is refused.
        """
        if "://" in self.source:
            return
        warehouse = self.warehouse
        with warehouse.in_use(_tell_of_upkeep):
            known = {file.stem for file in warehouse.files("raw", "snapshots")}
            share, most = self.max_reject_share, self.max_source_bytes
            snapshot = ingest(self.source, self.mapping, share, warehouse, self.append, self.units, self.required, most)
            notes = {"generated data": snapshot.is_generated, "read before": snapshot.snapshot in known}
            cli.tell(snapshot.summary + "".join(f" [{note}]" for note, holds in notes.items() if holds))
            chosen = (self.min_genre_rows, warehouse, self.artist_separators)
            tables = build_each(self.protocols, lambda name: build_features(snapshot, name, *chosen))
            said = [*snapshot.notes, rare_genres(tables, warehouse), unseparated(tables, warehouse)]
            for line in (*said, *left_out(tables, warehouse), *targets.notes(tables, warehouse)):
                if line:
                    cli.tell(line)


def build_each(
    protocols: list[str], build: Callable[[str], list[BuiltTable]], *, silently: bool = False
) -> list[BuiltTable]:
    """The tables of all protocols. One that the data does not allow is told and left out.

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
    for reason in [] if silently else refused:
        cli.tell(str(reason))
    return tables


def appending(append_to: str | None, statistics: Statistics) -> Append | None:
    """What the source is appended to, if to anything. Raises: UserError: nothing, of which statistics would be kept."""
    if append_to is None and statistics == "kept":
        raise UserError("--statistics kept: takes --append-to, the snapshot whose statistics are kept.")
    return Append(append_to, statistics) if append_to else None


def default_source(source: str | None) -> str:
    """What is read when the user names nothing."""
    return source or os.environ.get("MUSIC_SOURCE") or "sample"
