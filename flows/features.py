"""Read a source and build its feature tables, without training anything."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flows import cli
from flows.holding import holding_warehouse
from flows.options import Command, Outcome
from flows.parameters import (
    SOURCE_BYTES,
    Bytes,
    Columns,
    Count,
    Plugins,
    ProtocolNames,
    Separators,
    Share,
    Source,
    Units,
    WarehouseName,
)
from tasks.specs import Statistics

if TYPE_CHECKING:
    from tasks.features.registry import BuiltTable


@holding_warehouse
def features(
    source: Source | None = None,
    plugins: Plugins = None,
    columns: Columns = "",
    protocol: ProtocolNames = "published",
    warehouse: WarehouseName | None = None,
    max_reject_share: Share = 0.05,
    min_genre_rows: Count = 20,
    max_source_bytes: Bytes = SOURCE_BYTES,
    artist_separators: Separators | None = None,
    append_to: str | None = None,
    statistics: Statistics = "relearned",
    units: Units = "",
) -> list[BuiltTable]:
    """Ingest a source and build the feature tables of a protocol; unchanged tables are kept.

    Args:
        source: CSV, gzipped CSV or Parquet by path or URL, the built-in generated sample, or tracks that were read
            before (snapshot:latest: the published ones). By default $MUSIC_SOURCE, else the sample. Give a URL that
            holds secrets by $MUSIC_SOURCE: a flow run keeps its parameters.
        plugins: Python files that add models, feature sets and protocols (docs/plugins.md), besides those of
            $MUSIC_PLUGINS.
        columns: the file's own column names, as ours=theirs,..., in a TOML file of such pairs, or as the name of a
            public file (tidytuesday).
        protocol: how rows are filled and split: published, label_free, cold_start, one that measures a leak
            (docs/words.md), main for the first three, probes for the others, or all.
        warehouse: where data is kept, a folder or a URL (s3://bucket/prefix). By default $MUSIC_WAREHOUSE, else
            ./warehouse.
        max_reject_share: stop if a larger share of the rows has bad values.
        min_genre_rows: drop genres with fewer valid rows.
        max_source_bytes: refuse a source that is larger, as it is or unpacked: bytes, or a size such as 20GB.
        artist_separators: what separates several artists in one name, such as ', ' ' & ' ' x ' /. Lists, ';' and feat.
            always do.
        append_to: append the source's tracks to those of this snapshot (raw.snapshots), or of the published one:
            latest.
        statistics: of an appended snapshot. relearned: make every table again. kept: prepare the new tracks alone, by
            the statistics that were fitted before, and add them to training.
        units: convert columns in another unit, as energy=percent,duration_ms=seconds,... (docs/input.md).
    """
    from flows.preparing import Preparation
    from tasks.orchestration.artifacts import tag_run
    from tasks.orchestration.crashed_runs import mark_killed_runs
    from tasks.orchestration.prefect_tasks import publish_task, report_task
    from tasks.storage.warehouse import Warehouse

    opened = Warehouse.at(warehouse)
    mark_killed_runs(opened)
    snapshot, tables = Preparation.of(
        source,
        columns,
        protocol,
        warehouse,
        max_reject_share,
        min_genre_rows,
        max_source_bytes,
        artist_separators,
        append_to,
        statistics,
        units,
    ).in_flow()
    tag_run(f"protocol:{protocol}", snapshot.tag)
    publish_task(snapshot, tables, opened)
    report_task(snapshot, tables, None, opened)
    return tables


def run(options: dict[str, Any]) -> Outcome:
    """Runs the flow for the command."""
    from flows import server
    from flows.preparing import Preparation
    from tasks.reporting.terminal import print_features
    from tasks.storage.warehouse import Warehouse
    from tasks.training.drift import source_drift

    began = datetime.now(UTC)
    preparation = Preparation.of(**{name: value for name, value in options.items() if name != "plugins"})
    preparation.check()
    tables = server.run_with_prefect(features, options, preparation.before_flow)
    opened = Warehouse.at(options["warehouse"])
    facts = [
        {"table": f"features.{table.table_name}", "protocol": table.protocol, "rows": table.rows, "path": table.path}
        for table in tables
    ]
    drift = source_drift(tables[0].snapshot, opened)
    return Outcome(
        facts={
            "snapshot": tables[0].snapshot,
            "tables": facts,
            "drift": drift.facts if drift else None,
            "warehouse": opened.address,
        },
        show=lambda: print_features(tables, opened, began),
    )


COMMAND = Command(
    name="features",
    function=features,
    run=run,
    kept="Tables that were built are kept: the same command goes on from there.",
    starts_server=True,
    examples=("--source musicData.csv --protocol all", "--source more.csv --append-to latest --statistics kept"),
)

if __name__ == "__main__":
    cli.run_app(COMMAND.app())
