"""Whether a stored file is what was written: its SHA-256, kept beside it, and whether a Parquet file has its end.

Beside each file or folder that is written once stands `NAME.sha256`, a line a file, as `sha256sum --check` reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tasks.errors import UserError

SUFFIX = ".sha256"
MAGIC = b"PAR1"
FOOTER = 8  # bytes at a Parquet file's end: the length of its metadata, and MAGIC


class WriteError(UserError):
    """What was written is not what is there: the disk is full, or fails."""


def digest_of(path: Path) -> str:
    """A file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests_of(path: Path, name: str, known: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """The digest of a file, or of each in a folder, by `name` or `name/FILE`.

    Args: name: what `path` will be called. known: digests of files in the folder that need not be read, by FILE.
    """
    if not path.is_dir():
        return {name: digest_of(path)}
    return {f"{name}/{file.name}": known.get(file.name) or digest_of(file) for file in sorted(path.iterdir())}


def as_text(digests: Mapping[str, str]) -> str:
    """As `sha256sum` writes it."""
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def from_text(text: str) -> dict[str, str]:
    """The digests that `as_text` wrote; what is no such line does not count."""
    pairs = (line.split("  ", 1) for line in text.splitlines())
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2 and len(pair[0]) == hashlib.sha256().digest_size * 2}


def fault_of(path: Path) -> str | None:
    """What is plainly wrong with a Parquet file, or with one of a folder of them, by a look at its end; None: nothing.

    A file that was cut off, or whose end was never written, has no footer.
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
    """Raises: WriteError: a Parquet file that was just written is not whole. Args: name: what it will be called."""
    if name.endswith(".parquet") and (fault := fault_of(path)):
        raise WriteError(f"{name}: {fault} right after it was written. Is the disk full? Nothing took its place.")
