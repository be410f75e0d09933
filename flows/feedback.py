"""Feedback on one track: what pushes its genre and popularity, what if, and the known tracks most like it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from flows import cli
from tasks.errors import UserError
from tasks.feedback.adviser import Adviser
from tasks.feedback.page import html
from tasks.feedback.text import print_feedback
from tasks.feedback.track import choosing
from tasks.ingest.columns import MIN_FEATURES, parse_mapping
from tasks.ingest.sources import MAX_BYTES
from tasks.ingest.units import parse_units
from tasks.prediction.champions import TRAIN
from tasks.reporting.report import write
from tasks.storage.warehouse import Warehouse


def feedback(
    tracks: str | None = None,
    track_id: int | None = None,
    out: str | None = None,
    model: str | None = None,
    warehouse: str | None = None,
    columns: str = "",
    units: str = "",
    min_features: int = MIN_FEATURES,
    max_source_bytes: int = MAX_BYTES,
) -> Path:
    """Print a summary and write the page. Returns: its path.

    Args:
        tracks: path, URL or sample[:ROWS]; any of the audio features may be missing. None: one of the known tracks.
        track_id: which; may be left out for a file of one track.
        out: .html; by default named after the tracks, in the current directory.
        model: in the place of the champion of each task that it predicts.
        warehouse: where the models are; by default $MUSIC_WAREHOUSE, else ./warehouse.
        columns: the file's own names as ours=theirs,... or the path of a TOML file.
        units: of columns in another unit than the project's, as energy=percent,duration_ms=seconds,...
        min_features: refuse a file with fewer of the 12 audio features.
        max_source_bytes: that the file may hold, as it is or unpacked.
    """
    opened = Warehouse.to_read(warehouse, advice=TRAIN)
    target = _target(tracks, track_id, out)
    mapping = parse_mapping(columns)
    converted = parse_units(units)
    with opened.in_use(reads_only=True):
        adviser = Adviser.load(opened, model)
        file = (converted, min_features, max_source_bytes)
        with choosing(tracks, track_id, mapping, adviser.known, opened, *file) as chosen:
            for line in chosen.notes:
                cli.tell(line)
            found = adviser.feedback(chosen)
    write(html(found), target, opened)
    print_feedback(found)
    cli.tell(f"written: {target}")
    return target


def _target(tracks: str | None, track_id: int | None, out: str | None) -> Path:
    """Where the page goes. Raises: UserError: not a page's name, or not a place for it."""
    path = urlsplit(tracks).path if tracks and "://" in tracks else tracks or ""
    name = re.sub(r"(\.csv)?(\.gz)?$|\.parquet$", "", Path(path).name.replace(":", "-"))
    parts = [name or ("tracks" if tracks else "known"), *([] if track_id is None else [str(track_id)])]
    target = cli.out_file(out or f"{'-'.join(parts)}.feedback.html")
    if target.suffix != ".html":
        raise UserError(f"--out {target.name}: its name must end in .html.")
    return target


def parser() -> cli.Parser:
    """The command's options."""
    command = cli.Parser(prog="python -m flows.feedback", description=__doc__)
    cli.add_track(command)
    add = command.add_argument
    add("--out", metavar="FILE", help=".html; by default TRACKS' name with .feedback.html")
    add("--model", metavar="NAME", help="feedback by this model instead of the champions")
    cli.add_warehouse(command)
    add("--columns", default="", metavar="OURS=THEIRS,...", help="the file's own names, or a TOML file of such pairs")
    cli.add_values(command)
    return command


def main() -> int:
    """The command `python -m flows.feedback`."""
    feedback(**vars(parser().parse_args()))
    return 0


if __name__ == "__main__":
    cli.run_command(main, kept="Nothing was written.")
