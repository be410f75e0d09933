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
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import UserError


@dataclass(frozen=True, slots=True)
class Warehouse:
    """The folders of one warehouse; `root` is absolute."""

    root: Path

    @classmethod
    def at(cls, root: str | Path | None = None) -> Warehouse:
        """The warehouse at `root`, else at `$MUSIC_WAREHOUSE`, else `./warehouse`; made if it is not there.

        Raises: UserError: the folder cannot be made or written to.
        """
        path = Path(root or os.environ.get("MUSIC_WAREHOUSE") or "warehouse").expanduser().resolve()
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

    def temporary(self, label: str) -> Path:
        """A new name under `tmp/`, on the same file system as everything else, so that renames are atomic."""
        return self.root / "tmp" / f"{label}-{uuid.uuid4().hex[:8]}.{socket.gethostname()}.{os.getpid()}.tmp"

    def sweep(self) -> None:
        """Remove what processes of this machine that are gone left under `tmp/`."""
        owner = re.compile(rf"\.{re.escape(socket.gethostname())}\.(\d+)\.tmp(\..+)?$")  # DuckDB adds .wal and .tmp
        for left in (self.root / "tmp").iterdir():
            found = owner.search(left.name)
            if found and not psutil.pid_exists(int(found[1])):
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)

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
        path = self.root / "tmp" / f"{name}.lock"
        with path.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def flush(path: Path) -> None:
    """Have the operating system write a file to the disk now."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
