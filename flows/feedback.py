"""Explain the prediction of one track: contributions, what-if curves, and similar known tracks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows import cli
from flows.options import Command, Outcome
from flows.parameters import (
    SOURCE_BYTES,
    Bytes,
    Columns,
    Features,
    File,
    Plugins,
    StoredModelName,
    TrackId,
    TracksFile,
    Units,
    WarehouseName,
)
from tasks.errors import UserError
from tasks.ingest.columns import MIN_FEATURES, parse_mapping


def feedback(
    tracks: TracksFile | None = None,
    track_id: TrackId | None = None,
    out: File | None = None,
    plugins: Plugins = None,
    model: StoredModelName | None = None,
    warehouse: WarehouseName | None = None,
    columns: Columns = "",
    units: Units = "",
    min_features: Features = MIN_FEATURES,
    max_source_bytes: Bytes = SOURCE_BYTES,
) -> Path:
    """Prints a summary and writes the page. Returns the page's path.

    Args:
        tracks: CSV, gzipped CSV or Parquet by path or URL, or sample[:ROWS]. Any of the audio features may be missing.
            Left out: one of the warehouse's own tracks.
        track_id: the track's instance_id or, where there is none, its row number. May be left out for a file of one
            track.
        out: .html. By default named after the tracks, in the current directory.
        plugins: Python files that add models, feature sets and protocols (docs/plugins.md), besides those of
            $MUSIC_PLUGINS.
        model: explain the prediction of this model instead of the champions.
        warehouse: where the models are, a folder or a URL. By default $MUSIC_WAREHOUSE, else ./warehouse.
        columns: the file's own column names, as ours=theirs,..., in a TOML file of such pairs, or as the name of a
            public file (tidytuesday).
        units: convert columns in another unit, as energy=percent,duration_ms=seconds,... (docs/input.md).
        min_features: refuse a file with fewer of the 12 audio features.
        max_source_bytes: refuse a source that is larger, as it is or unpacked: bytes, or a size such as 20GB.
    """
    from tasks.feedback.adviser import Adviser
    from tasks.feedback.page import html
    from tasks.feedback.text import print_feedback
    from tasks.feedback.track import selected_track
    from tasks.ingest.units import parse_units
    from tasks.prediction.champions import TRAIN
    from tasks.reporting.report import write
    from tasks.storage.warehouse import Warehouse

    opened = Warehouse.to_read(warehouse, advice=TRAIN)
    target = _target(tracks, track_id, out)
    mapping = parse_mapping(columns)
    converted = parse_units(units)
    with opened.in_use(reads_only=True):
        adviser = Adviser.load(opened, model)
        file = (converted, min_features, max_source_bytes)
        with selected_track(tracks, track_id, mapping, adviser.known, opened, *file) as chosen:
            for line in chosen.notes:
                cli.tell(line)
            found = adviser.feedback(chosen)
    write(html(found), target, opened)
    print_feedback(found)
    cli.tell(f"written: {target}")
    return target


def _target(tracks: str | None, track_id: int | None, out: str | None) -> Path:
    """Returns the path of the page. Raises: UserError: the name is not a page's, or nothing can be written there."""
    from tasks.storage.outputs import out_file, stem_of

    parts = [stem_of(tracks or "") or ("tracks" if tracks else "known"), *([] if track_id is None else [str(track_id)])]
    target = out_file(out or f"{'-'.join(parts)}.feedback.html")
    if target.suffix != ".html":
        raise UserError(f"--out {target.name}: its name must end in .html.")
    return target


def run(options: dict[str, Any]) -> Outcome:
    """Explains the track for the command."""
    return Outcome(facts={"page": feedback(**options)})


COMMAND = Command(
    name="explain",
    function=feedback,
    run=run,
    kept="Nothing was written.",
    examples=("examples/new_songs.csv --track-id 2", "--track-id 4711"),
)

if __name__ == "__main__":
    cli.run_app(COMMAND.app())
