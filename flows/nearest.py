"""Find the known tracks nearest to one track, by their audio features."""

from __future__ import annotations

from typing import Any

from flows import cli
from flows.options import Command, Outcome
from flows.parameters import (
    SOURCE_BYTES,
    Bytes,
    Columns,
    Count,
    Features,
    Plugins,
    TrackId,
    TracksFile,
    Units,
    WarehouseName,
)
from tasks.ingest.columns import MIN_FEATURES, parse_mapping

PREPARE = "Prepare tracks: python -m flows.features --source YOUR_TRACKS.csv --protocol cold_start"


def nearest(
    tracks: TracksFile | None = None,
    track_id: TrackId | None = None,
    k: Count = 10,
    warehouse: WarehouseName | None = None,
    plugins: Plugins = None,
    columns: Columns = "",
    units: Units = "",
    min_features: Features = MIN_FEATURES,
    max_source_bytes: Bytes = SOURCE_BYTES,
) -> list[dict[str, Any]]:
    """Prints the k nearest known tracks. Returns them as rows of sql/predict/nearest.sql.

    Args:
        tracks: CSV, gzipped CSV or Parquet by path or URL, or sample[:ROWS]. Any of the audio features may be missing.
            Left out: one of the warehouse's own tracks.
        track_id: the track's instance_id or, where there is none, its row number. May be left out for a file of one
            track.
        k: how many tracks, 1 to 1000.
        warehouse: whose tracks are known, a folder or a URL. By default $MUSIC_WAREHOUSE, else ./warehouse.
        plugins: Python files that add models, feature sets and protocols (docs/plugins.md), besides those of
            $MUSIC_PLUGINS.
        columns: the file's own column names, as ours=theirs,..., in a TOML file of such pairs, or as the name of a
            public file (tidytuesday).
        units: convert columns in another unit, as energy=percent,duration_ms=seconds,... (docs/input.md).
        min_features: refuse a file with fewer of the 12 audio features.
        max_source_bytes: refuse a source that is larger, as it is or unpacked: bytes, or a size such as 20GB.
    """
    from tasks.feedback.nearest import known_tracks
    from tasks.feedback.nearest import nearest as find_nearest
    from tasks.feedback.text import print_nearest
    from tasks.feedback.track import selected_track
    from tasks.ingest.units import parse_units
    from tasks.storage.warehouse import Warehouse

    opened = Warehouse.to_read(warehouse, advice=PREPARE)
    mapping = parse_mapping(columns)
    converted = parse_units(units)
    with opened.in_use(reads_only=True):
        known = known_tracks(opened)
        with selected_track(
            tracks, track_id, mapping, known, opened, converted, min_features, max_source_bytes
        ) as chosen:
            for line in chosen.notes:
                cli.tell(line)
            found: list[dict[str, Any]] = find_nearest(
                chosen.connection, known, chosen.row_number, k, is_known=chosen.is_known
            ).to_pylist()
    data = "generated sample" if known.is_generated else known.source
    print_nearest(found, f"Nearest of {known.n_rows:,} known tracks, {data}")
    return found


def run(options: dict[str, Any]) -> Outcome:
    """Finds the tracks for the command."""
    return Outcome(facts={"nearest": nearest(**options)})


COMMAND = Command(
    name="nearest",
    function=nearest,
    run=run,
    kept="Nothing was written.",
    examples=("examples/new_songs.csv --track-id 2", "--track-id 4711 --k 20"),
)

if __name__ == "__main__":
    cli.run_app(COMMAND.app())
