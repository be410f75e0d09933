"""Read a source and build its feature tables, without training anything."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args

from prefect import flow

from flows import cli, preparing, server
from flows.parameters import Bytes, Count, ProtocolNames, Share
from flows.preparing import Preparation
from tasks.features.registry import BuiltTable
from tasks.ingest.columns import parse_mapping
from tasks.ingest.snapshots import Statistics
from tasks.ingest.sources import MAX_BYTES
from tasks.ingest.units import parse_units
from tasks.orchestration.artifacts import tag_run
from tasks.orchestration.crashed_runs import mark_killed_runs
from tasks.orchestration.prefect_tasks import features_task, ingest_task, publish_task, report_task
from tasks.reporting import terminal
from tasks.specs import protocols_of
from tasks.storage.warehouse import Warehouse


@flow(name="features", flow_run_name="features {protocol}")
@preparing.holding_warehouse
def features(
    source: str | None = None,
    columns: str = "",
    protocol: ProtocolNames = "published",
    warehouse: str | None = None,
    max_reject_share: Share = 0.05,
    min_genre_rows: Count = 20,
    max_source_bytes: Bytes = MAX_BYTES,
    artist_separators: list[str] | None = None,
    append_to: str | None = None,
    statistics: Statistics = "relearned",
    units: str = "",
) -> list[BuiltTable]:
    """Ingest `source` and build the feature tables of a protocol; what is unchanged is kept.

    Args:
        source: path, URL without secrets, sample[:ROWS] or snapshot:ID; by default $MUSIC_SOURCE, else the sample.
        columns: the file's own names as ours=theirs,... or the path of a TOML file.
        units: of columns in another unit than the project's, as energy=percent,duration_ms=seconds,...
        protocol: a protocol's name, or all.
        warehouse: where data is kept; by default $MUSIC_WAREHOUSE, else ./warehouse.
        max_reject_share: stop if a larger share of the rows has bad values.
        min_genre_rows: genres with fewer valid rows are dropped.
        max_source_bytes: stop if the source holds more, as it is or unpacked: a number or a size such as 20GB.
        artist_separators: what separates several artists in one name, beside lists, ';' and feat., which always do.
        append_to: the snapshot that the source's tracks are appended to, or latest for the one that is published.
        statistics: of an appended snapshot: relearned makes every table anew; kept prepares the new rows alone, by what
            was learnt before, and adds them to training.
    """
    opened = Warehouse.at(warehouse)
    mark_killed_runs(opened)
    append = preparing.appending(append_to, statistics)
    snapshot = ingest_task(
        preparing.default_source(source),
        parse_mapping(columns),
        max_reject_share,
        opened,
        append,
        parse_units(units),
        max_bytes=max_source_bytes,
    )
    tag_run(f"protocol:{protocol}", snapshot.tag)
    tables = preparing.build_each(
        protocols_of(protocol),
        lambda name: features_task(snapshot, name, min_genre_rows, opened, artist_separators or []),
        silently=True,
    )
    publish_task(snapshot, tables, opened)
    report_task(snapshot, tables, None, opened)
    return tables


def parser() -> cli.Parser:
    """The command's options."""
    command = cli.source_parser("flows.features", __doc__)
    command.add_argument(
        "--append-to",
        metavar="SNAPSHOT",
        help="append the source's tracks to those of a snapshot (raw.snapshots), or to the published one: latest",
    )
    command.add_argument(
        "--statistics",
        choices=get_args(Statistics),
        default="relearned",
        help="of an appended snapshot: relearned makes every table anew; kept prepares the new tracks alone, by what "
        "was learnt before. By default relearned",
    )
    return command


def main() -> int:
    """The command `python -m flows.features`."""
    began = datetime.now(UTC)
    options = cli.parameters(parser(), features)
    ahead = Preparation.of(**options)
    tables = server.run_with_prefect(features, options, ahead.carry_out)
    terminal.print_features(tables, Warehouse.at(options["warehouse"]), began)
    return 0


if __name__ == "__main__":
    cli.run_command(main)
