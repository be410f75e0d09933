"""Opens files that the user names, if they are regular files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tasks.errors import InputError

KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))


@contextmanager
def regular_file(path: Path, label: str) -> Iterator[IO[bytes]]:
    """Opens a regular file for reading. Raises: InputError: it is no regular file, or cannot be read."""
    check_regular(path, label)
    try:
        # Does not block if the file has become a pipe meanwhile.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as error:
        raise unreadable(path, label, error) from error
    with file:
        _check_kind(os.fstat(file.fileno()), label)
        yield file


def check_regular(path: Path, label: str) -> None:
    """Raises: InputError: the path is no regular file but a folder, a pipe or a device, or cannot be read."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise unreadable(path, label, error) from error
    _check_kind(status, label)


def _check_kind(status: os.stat_result, label: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for holds, name in KINDS if holds(status.st_mode)), "a device")
        raise InputError(f"{label}: is {kind}, not a file. Write what it holds to a file, and give that.")


def unreadable(path: Path, label: str, error: Exception) -> InputError:
    """Returns the error for a file that the operating system cannot read."""
    return InputError(f"{label}: cannot be read ({getattr(error, 'strerror', None) or error}: {path}).")
