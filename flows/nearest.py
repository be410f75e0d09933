"""The known tracks nearest to one track, by their audio features."""

from __future__ import annotations

from typing import Any

from flows import cli
from tasks.feedback.nearest import MOST, known_tracks
from tasks.feedback.nearest import nearest as find_nearest
from tasks.feedback.text import print_nearest
from tasks.feedback.track import choosing
from tasks.ingest.columns import MIN_FEATURES, parse_mapping
from tasks.ingest.sources import MAX_BYTES
from tasks.ingest.units import parse_units
from tasks.storage.warehouse import Warehouse

PREPARE = "Prepare tracks: python -m flows.features --source YOUR_TRACKS.csv --protocol cold_start"


def nearest(
    tracks: str | None = None,
    track_id: int | None = None,
    k: int = 10,
    warehouse: str | None = None,
    columns: str = "",
    units: str = "",
    min_features: int = MIN_FEATURES,
    max_source_bytes: int = MAX_BYTES,
) -> list[dict[str, Any]]:
    """Print the k nearest known tracks. Returns: them, as sql/predict/nearest.sql.

    Args:
        tracks: path, URL or sample[:ROWS]; any of the audio features may be missing. None: one of the known tracks.
        track_id: which; may be left out for a file of one track.
        k: how many, 1 to 1000.
        warehouse: whose tracks are known; by default $MUSIC_WAREHOUSE, else ./warehouse.
        columns: the file's own names as ours=theirs,... or the path of a TOML file.
        units: of columns in another unit than the project's, as energy=percent,duration_ms=seconds,...
        min_features: refuse a file with fewer of the 12 audio features.
        max_source_bytes: that the file may hold, as it is or unpacked.
    """
    opened = Warehouse.to_read(warehouse, advice=PREPARE)
    mapping = parse_mapping(columns)
    converted = parse_units(units)
    with opened.in_use(reads_only=True):
        known = known_tracks(opened)
        with choosing(tracks, track_id, mapping, known, opened, converted, min_features, max_source_bytes) as chosen:
            for line in chosen.notes:
                cli.tell(line)
            found: list[dict[str, Any]] = find_nearest(
                chosen.connection, known, chosen.row_number, k, is_known=chosen.is_known
            ).to_pylist()
    data = "generated sample" if known.is_generated else known.source
    print_nearest(found, f"Nearest of {known.n_rows:,} known tracks, {data}")
    return found


def parser() -> cli.Parser:
    """The command's options."""
    command = cli.Parser(prog="python -m flows.nearest", description=__doc__)
    cli.add_track(command)
    add = command.add_argument
    add("--k", type=int, default=10, metavar="N", help=f"how many, at most {MOST:,}; by default 10")
    cli.add_warehouse(command)
    add("--columns", default="", metavar="OURS=THEIRS,...", help="the file's own names, or a TOML file of such pairs")
    cli.add_values(command)
    return command


def main() -> int:
    """The command `python -m flows.nearest`."""
    nearest(**vars(parser().parse_args()))
    return 0


if __name__ == "__main__":
    cli.run_command(main, kept="Nothing was written.")
