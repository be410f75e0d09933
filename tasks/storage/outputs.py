"""Files that commands write outside the warehouse, where --out says."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from tasks.errors import UserError
from tasks.storage.warehouse import flush


def out_file(text: str) -> Path:
    """Returns the path that --out names. Raises: UserError: nothing can be written there."""
    path = Path(text).expanduser().absolute()
    reason = None
    if path.is_dir():
        reason = "it is a folder"
    elif not path.parent.is_dir():
        reason = f"there is no folder {path.parent}"
    elif not os.access(path.parent, os.W_OK):
        reason = f"the folder {path.parent} is not writable"
    if reason:
        raise UserError(f"--out {path}: cannot be written there, {reason}. Choose another file.")
    return path


def stem_of(source: str) -> str:
    """Returns the name of a source, a path or URL, without its suffix; empty if it has none."""
    path = urlsplit(source).path if "://" in source else source
    return re.sub(r"(\.csv)?(\.gz)?$|\.parquet$", "", Path(path).name.replace(":", "-"))


@contextmanager
def replacing_beside(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside `target`, renamed to it on success; leftovers of dead processes are removed."""
    start = f".{target.name}.{socket.gethostname()}."
    for left in target.parent.iterdir():
        owner = left.name.removeprefix(start).removesuffix(".tmp")
        if left.name.startswith(start) and owner.isdigit() and not psutil.pid_exists(int(owner)):
            left.unlink(missing_ok=True)
    temporary = target.with_name(f"{start}{os.getpid()}.tmp")
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
