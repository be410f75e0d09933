"""Integrity of stored files: their SHA-256, and whether a Parquet file is complete.

Each file or folder that is written once has a file `NAME.sha256` beside it, in the format of `sha256sum --check`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tasks.errors import UserError

SUFFIX = ".sha256"
MAGIC = b"PAR1"
FOOTER = 8  # bytes at the end of a Parquet file: the length of its metadata, and MAGIC


class WriteError(UserError):
    """A file is not complete after it was written: the disk is full, or fails."""


def digest_of(path: Path) -> str:
    """Returns a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests_of(path: Path, name: str, known: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Returns the SHA-256 of a file by `name`, or of each file in a folder by `name/FILE`.

    Args: name: the name that `path` will get. known: digests that need not be computed, by FILE in the folder.
    """
    if not path.is_dir():
        return {name: digest_of(path)}
    return {f"{name}/{file.name}": known.get(file.name) or digest_of(file) for file in sorted(path.iterdir())}


def as_text(digests: Mapping[str, str]) -> str:
    """Returns digests in the format of `sha256sum`."""
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def from_text(text: str) -> dict[str, str]:
    """Returns the digests in a text of `as_text`; other lines are ignored."""
    pairs = (line.split("  ", 1) for line in text.splitlines())
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2 and len(pair[0]) == hashlib.sha256().digest_size * 2}


def fault_of(path: Path) -> str | None:
    """Returns what is wrong with a Parquet file, or with the first damaged one in a folder; None if nothing is.

    Only the start and the end of each file are read: a file that was cut off has no footer.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    return next((fault for file in files if (fault := _fault_of(file))), None if files else "is empty")


def _fault_of(file: Path) -> str | None:
    try:
        size = file.stat().st_size
        if size < FOOTER + len(MAGIC):
            return "is cut off"
        with file.open("rb") as handle:
            start = handle.read(len(MAGIC))
            handle.seek(size - FOOTER)
            end = handle.read(FOOTER)
    except FileNotFoundError:
        return "is missing"
    is_whole = start == end[4:] == MAGIC and int.from_bytes(end[:4], "little") <= size - FOOTER - len(MAGIC)
    return None if is_whole else "is cut off or altered"


def check_written(path: Path, name: str) -> None:
    """Checks a Parquet file that was just written. Args: name: its final name. Raises: WriteError: it is damaged."""
    if name.endswith(".parquet") and (fault := fault_of(path)):
        raise WriteError(f"{name}: {fault} right after it was written. Is the disk full? Nothing took its place.")
