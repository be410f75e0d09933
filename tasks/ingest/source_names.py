"""What the name of a source means, and whether it can be read. Imports no large library: commands refuse at once."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tasks.errors import UserError, one_line
from tasks.ingest.files import check_regular
from tasks.specs import MAX_SOURCE_BYTES
from tasks.storage.urls import public_name

STORED = re.compile(r"snapshot:(.*)", re.DOTALL)
SAMPLE = re.compile(r"sample(?::(\d+))?")
SAMPLE_ROWS = 20_000  # of the sample without a number
BYTES_OF_ROW = 150  # of a CSV file, estimated
LOCAL = re.compile(r"(?:file|local)://")  # URLs of local files


def default_source(source: str | None) -> str:
    """Returns the source, by default $MUSIC_SOURCE, else the sample."""
    return source or os.environ.get("MUSIC_SOURCE") or "sample"


def sample_rows(source: str, max_bytes: int = MAX_SOURCE_BYTES) -> int | None:
    """Returns how many generated tracks `source` asks for; None if it is not `sample[:ROWS]`.

    Raises: UserError: ROWS is not a whole number, or more rows than `max_bytes` can contain.
    """
    if sample := SAMPLE.fullmatch(source):
        most = max_bytes // BYTES_OF_ROW
        digits = (sample[1] or str(SAMPLE_ROWS)).lstrip("0") or "0"
        if len(digits) > len(str(most)) or int(digits) > most:
            raise UserError(f"A sample of more than {most:,} tracks takes more than --max-source-bytes allows.")
        return int(digits)
    if source.startswith("sample:"):
        raise UserError(f"{source}: sample[:ROWS] takes a whole number of rows.")
    return None


def catalogue_of(source: str) -> str:
    """Returns the catalogue that a source is: an absolute path, a URL without secrets, or `sample` of any size."""
    if SAMPLE.fullmatch(source):
        return "sample"
    local = local_file(source)
    return one_line(os.path.abspath(local[0])) if local else public_name(source)  # noqa: PTH100 - it resolves no link


def local_file(source: str) -> tuple[Path, str] | None:
    """Returns the local path of a file and its name in messages; None if it is a remote URL."""
    if LOCAL.match(source) and "::" not in source:
        return Path(LOCAL.sub("", source, count=1)), public_name(source)
    if "://" in source:
        return None
    path = Path(source).expanduser()
    return path, one_line(path.name)


def check(source: str, max_bytes: int = MAX_SOURCE_BYTES) -> None:
    """Checks a source without reading it; of a snapshot nothing. Raises: UserError: it cannot be read."""
    if STORED.fullmatch(source) or sample_rows(source, max_bytes) is not None:
        return
    if local := local_file(source):
        check_regular(*local)
    else:
        public_name(source)
