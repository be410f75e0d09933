"""Where the project keeps its data. Everything that touches stored files goes through here.

The truth is immutable Parquet: written under a temporary name that no `*.parquet` glob matches, flushed to disk, then
renamed to a final name that is never written again. Killed and concurrent runs therefore lose and block nothing. (A
search for settings keeps its own journal as well, see tasks/tuning.py.)
"""

from __future__ import annotations

import fcntl
import glob
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import UserError

POLL_SECONDS = 0.1
OWNER = re.compile(r"\.(?P<host>[^/]+)\.(?P<pid>\d+)\.tmp(\..+)?$")  # DuckDB adds .wal and .tmp


@dataclass(frozen=True, slots=True)
class Warehouse:
    """The folders of one warehouse; `root` is absolute."""

    root: Path

    @classmethod
    def at(cls, root: str | Path | None = None) -> Warehouse:
        """The warehouse at `root`, else at `$MUSIC_WAREHOUSE`, else `./warehouse`; made if it is not there.

        Raises: UserError: the folder cannot be made or written to.
        """
        path = _root(root)
        if glob.has_magic(str(path)):
            raise UserError(f"{path}: a warehouse's path must not hold any of * ? [, which DuckDB would expand.")
        try:
            (path / "tmp").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{path}: cannot be used as the warehouse ({error.strerror}). Choose --warehouse."
            ) from error
        if not os.access(path / "tmp", os.W_OK):
            raise UserError(f"{path}: the warehouse is not writable. Choose another with --warehouse.")
        return cls(path)

    @classmethod
    def existing(cls, root: str | Path | None = None, advice: str = "Choose another with --warehouse.") -> Warehouse:
        """As `at`, of a warehouse that holds something; nothing is made. Args: advice: what to do if there is none.

        Raises: UserError: there is none, or it cannot be written to.
        """
        path = _root(root)
        if not (path / "raw").is_dir():
            raise UserError(f"{path}: is no warehouse, or an empty one (it has no raw/). {advice}")
        return cls.at(path)

    @classmethod
    def to_read(cls, root: str | Path | None = None) -> Warehouse:
        """As `existing`, for who only reads: nothing is made, and it may be read-only. Raises: UserError: no folder."""
        path = _root(root)
        if not path.is_dir():
            raise UserError(f"{path}: is no warehouse. Choose another with --warehouse.")
        return cls(path)

    @property
    def database(self) -> Path:
        """The published DuckDB file that people query; only ever replaced by rename."""
        return self.root / "music.duckdb"

    def table(self, schema: str, name: str, version: str) -> Path:
        """The one file of one version of a table."""
        return self.root / schema / name / f"{version}.parquet"

    def files(self, schema: str, name: str) -> list[Path]:
        """Every stored version of a table, oldest name first; temporary files are not listed."""
        return sorted((self.root / schema / name).glob("*.parquet"))

    def cell(self, result: str) -> Path:
        """The folder of a finished cell: it exists whole or not at all."""
        return self.root / "cells" / result

    def report(self, run_id: str) -> Path:
        """The HTML report of a run."""
        return self.root / "reports" / f"{run_id}.html"

    def temporary(self, label: str) -> Path:
        """A new name under `tmp/`, on the same file system as everything else, so that renames are atomic."""
        return self.root / "tmp" / f"{label}-{uuid.uuid4().hex[:8]}.{socket.gethostname()}.{os.getpid()}.tmp"

    def sweep(self) -> None:
        """Remove what processes of this machine that are gone left under `tmp/`."""
        for left in (self.root / "tmp").iterdir():
            owner = OWNER.search(left.name)
            if owner and owner["host"] == socket.gethostname() and not psutil.pid_exists(int(owner["pid"])):
                remove(left)

    def discard(self, path: Path) -> None:
        """Remove a file or a folder: a folder is there whole or not at all, even if this is killed."""
        if path.is_dir():
            removed = self.temporary("removed")
            os.rename(path, removed)
            path = removed
        remove(path)

    @contextmanager
    def replacing(self, final: Path, *, flushed: bool = True) -> Iterator[Path]:
        """Yield a temporary path to write; on success flush it and rename it to `final`, else remove it.

        A file that counts only once a record names it may be flushed later, before that record is written.
        """
        temporary = self.temporary(final.stem)
        try:
            yield temporary
            if flushed:
                flush(temporary)
            final.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, final)
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def new_folder(self, final: Path) -> Iterator[Path]:
        """Yield a temporary folder to fill; on success flush its files and rename it to `final`."""
        temporary = self.temporary(final.name)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for file in temporary.iterdir():
                flush(file)
            final.parent.mkdir(parents=True, exist_ok=True)
            os.rename(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def write_rows(self, final: Path, rows: list[dict[str, object]], schema: pa.Schema) -> None:
        """Write `rows` as one immutable Parquet file with exactly `schema`."""
        with self.replacing(final) as temporary:
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, compression="zstd")

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a lock that other processes on this machine respect; a killed holder lets go of it."""
        with self._lock_file(name) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold the warehouse, as many flows may at once: whatever they find stored stays until they let go."""
        with self._lock_file("use") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH)
            yield

    @contextmanager
    def alone(self, wait: float, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the warehouse while no flow does; those that start meanwhile wait.

        Args: wait: seconds to wait for those in progress; on_wait is called once if there are any.
        Raises: UserError: they have not ended by then.
        """
        deadline = time.monotonic() + wait
        with self._lock_file("use") as handle:
            if not _lock_now(handle):
                on_wait()
            while not _lock_now(handle):
                if time.monotonic() >= deadline:
                    raise UserError(in_use_message(self.root, f"after {wait:g} s"))
                time.sleep(POLL_SECONDS)
            yield

    def _lock_file(self, name: str) -> IO[str]:
        return (self.root / "tmp" / f"{name}.lock").open("w")


def _root(named: str | Path | None) -> Path:
    return Path(named or os.environ.get("MUSIC_WAREHOUSE") or "warehouse").expanduser().resolve()


def _lock_now(handle: IO[str]) -> bool:
    """Lock for this process alone; whether that was possible at once."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def in_use_message(root: Path, detail: str) -> str:
    """Why nothing may be removed now."""
    return f"{root}: still in use ({detail}); nothing was removed. Try again later, or wait longer with --wait."


def remove(path: Path) -> None:
    """Remove a file, or a folder with what is in it; no error if it is gone already."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Have the operating system write a file to the disk now."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
