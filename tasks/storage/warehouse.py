"""The warehouse: the files in which the project keeps its data. All access to stored files goes through this module.

Stored files are immutable Parquet. A file is written under a temporary name that no `*.parquet` glob matches, flushed
to disk, and renamed to a final name that is never written again. Killed and concurrent runs therefore lose and block
nothing. (Hyperparameter searches also append to a journal, see tasks/training/tuning.py.)

A remote warehouse (at a URL) has a local copy on each machine that uses it. A file is uploaded before it gets its final
name in the local copy, and fetched when it is first needed. Listings always come from the store.
"""

from __future__ import annotations

import fcntl
import glob
import json
import logging
import os
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import UserError, is_text
from tasks.storage import checksums
from tasks.storage.duck import digest
from tasks.storage.folder_store import Backend, FolderStore, is_gone, temporary_in
from tasks.storage.leases import FOLDER, HeldError, Holder, held, holders
from tasks.storage.object_store import Store, let_read
from tasks.storage.urls import public_name

LOG = logging.getLogger(__name__)
POLL_SECONDS = 0.1
MANIFEST = "manifest.json"
LAST_OF_CELL = "result.parquet"  # written last: a cell without it does not exist
OWNER = re.compile(r"\.(?P<host>[^/]+)\.(?P<pid>\d+)\.tmp(\..+)?$")  # DuckDB adds .wal and .tmp


@dataclass(frozen=True, slots=True)
class Warehouse:
    """The files of one warehouse.

    Args: root: absolute path; for a remote warehouse its local copy, which may be deleted. store: where the files are
        stored.
    """

    root: Path
    store: Backend

    @classmethod
    def at(cls, root: str | Path | None = None) -> Warehouse:
        """Opens the warehouse at `root` (path or URL), and creates it if it does not exist.

        Args: root: by default `$MUSIC_WAREHOUSE`, or else `./warehouse`.

        Raises: UserError: the folder or the store cannot be created or written to.
        """
        warehouse = _named(root)
        path = warehouse.root
        if glob.has_magic(warehouse.address):
            raise UserError(
                f"{warehouse.address}: a warehouse's path must not hold any of * ? [, which DuckDB would expand."
            )
        is_new = not (path / "tmp").is_dir()
        if is_new:
            warehouse.store.make()
        try:
            (path / "tmp").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{path}: cannot be used as the warehouse ({error.strerror}). Choose --warehouse."
            ) from error
        if not os.access(path / "tmp", os.W_OK):
            raise UserError(f"{path}: the warehouse is not writable. Choose another with --warehouse.")
        return warehouse

    @classmethod
    def existing(cls, root: str | Path | None = None) -> Warehouse:
        """Opens a warehouse that has ingested data; creates none. Args: root: as for `at`.

        Raises: UserError: there is no such warehouse, or it cannot be written to.
        """
        cls.to_read(root, "Choose another with --warehouse.")
        return cls.at(root)

    @classmethod
    def to_read(cls, root: str | Path | None = None, advice: str | None = None) -> Warehouse:
        """Opens a warehouse for reading only; it may be read-only, and only the local copy of a remote one is created.

        Args: root: as for `at`. advice: the end of the message if the warehouse is empty; None: an empty one is
            accepted.

        Raises: UserError: there is no such warehouse.
        """
        warehouse = _named(root)
        if not warehouse.store.exists():
            raise UserError(f"{warehouse.address}: is no warehouse. {advice or 'Choose another with --warehouse.'}")
        if advice and not warehouse.store.folders("raw"):
            raise UserError(f"{warehouse.address}: is no warehouse, or an empty one (nothing is below raw/). {advice}")
        if warehouse.is_remote:
            (warehouse.root / "tmp").mkdir(parents=True, exist_ok=True)
        return warehouse

    @property
    def scratch(self) -> Path:
        """The folder of temporary files: `tmp/` in the warehouse, or the system's if the warehouse is read-only."""
        own = self.root / "tmp"
        if os.access(own, os.W_OK):
            return own
        folder = Path(tempfile.gettempdir()) / f"music-benchmark-{os.getuid()}-{digest(self.address)}"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    @property
    def is_remote(self) -> bool:
        """Whether the warehouse is at a URL, and `root` is a local copy."""
        return self.store.is_remote

    @property
    def address(self) -> str:
        """The path or URL of the warehouse: `at(address)` opens it again."""
        return self.store.url

    @property
    def database(self) -> Path:
        """The published DuckDB file, which is only ever replaced; from a remote warehouse the newest is fetched."""
        published = (self.manifest() or {}).get("database") if self.is_remote else None
        return self.here(published or "music.duckdb")

    @property
    def client(self) -> str:
        """The start of a command that queries the published database."""
        return f"python -m flows.query --warehouse {shlex.quote(self.address)}"

    def manifest(self) -> dict[str, Any] | None:
        """Returns the manifest of the publication (tasks/results/open_tables.py); None if it is missing or damaged."""
        content = self.store.read(MANIFEST)
        try:
            return json.loads(content) if content else None
        except ValueError:
            LOG.warning("%s: %s is damaged. Publish again: any run does.", self.address, MANIFEST)
            return None

    def here(self, path: str | Path) -> Path:
        """Returns the local path of a stored file, which is fetched if need be; a file that is not stored is absent.

        Args: path: below the root, or absolute.
        """
        local = self.root / path
        self.fetch([local])
        return local

    def parts(self, path: str | Path) -> list[Path]:
        """Returns the local files of a table, newest rows last; a table may be a folder (tasks/features/append.py)."""
        local = self.here(path)
        return sorted(local.glob("*.parquet")) if local.is_dir() else [local]

    def fetch(self, paths: Iterable[Path]) -> None:
        """Fetches stored files, or folders of files, of a remote warehouse into the local copy; they never change."""
        missing = [path for path in dict.fromkeys(paths) if self.is_remote and not path.exists()]
        if not missing:
            return
        fetched = {path: self.temporary("fetched") for path in missing}
        try:
            self.store.get((self._name(path), temporary) for path, temporary in fetched.items())
            for path, temporary in fetched.items():
                if not temporary.exists() and path.suffix == ".parquet":
                    self._fetch_parts(path, temporary)
                if temporary.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    name_once(temporary, path)
        finally:
            for temporary in fetched.values():
                remove(temporary)

    def _fetch_parts(self, folder: Path, temporary: Path) -> None:
        if names := self.store.names(self._name(folder)):
            temporary.mkdir()
            self.store.get((self._name(folder / name), temporary / name) for name in names)

    def location(self, path: str | Path) -> str:
        """Returns the name of a stored file in published views: its path, or its URL in a remote warehouse."""
        return f"{self.address}/{self._name(self.root / path)}"

    def let_read(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Lets DuckDB read files by the names of `location`."""
        if self.is_remote:
            let_read(connection, self.address, self.here)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def table(self, schema: str, name: str, version: str) -> Path:
        """Returns the path of one version of a table."""
        return self.root / schema / name / f"{version}.parquet"

    def files(self, schema: str, name: str) -> list[Path]:
        """Returns every stored version of a table, sorted by name; temporary files are not listed."""
        folder = self.root / schema / name
        stored = [folder / file for file in self.store.names(f"{schema}/{name}") if file.endswith(".parquet")]
        self.fetch(stored)
        return [file for file in stored if file.exists()]

    def cell(self, result: str) -> Path:
        """Returns the folder of a finished cell: it is complete or absent."""
        return self.root / "cells" / result

    def results(self, key: str) -> list[str]:
        """Returns the names of the finished cells of a key, sorted: those whose last file exists."""
        paths = (path.split("/") for path in self.store.below("cells", f"{key}-"))
        return sorted(folder for folder, *rest in paths if rest == [LAST_OF_CELL])

    def folders(self, folder: str) -> list[str]:
        """Returns the names of the stored folders in a folder, in no order."""
        return self.store.folders(folder)

    def sizes(self) -> dict[str, int]:
        """Returns the size of every stored file in bytes, by its path below the root, without temporary files."""
        return self.store.sizes()

    def report(self, run_id: str) -> Path:
        """Returns the path of the HTML report of a run."""
        return self.root / "reports" / f"{run_id}.html"

    def temporary(self, label: str) -> Path:
        """Returns a new path in `scratch`, on the file system of the stored files, so that renames are atomic."""
        return temporary_in(self.scratch, label)

    def sweep(self) -> None:
        """Removes temporary files that dead processes of this machine left."""
        for left in self.scratch.iterdir():
            owner = OWNER.search(left.name)
            if owner and is_gone(owner):
                remove(left)

    def tidy_copy(self, stored: Collection[str]) -> int:
        """Removes files of the local copy that are not stored. Args: stored: every stored path. Returns: bytes."""
        self.sweep()
        freed = 0
        for file in [file for file in self.root.rglob("*") if file.is_file()]:
            name = self._name(file)
            if name not in stored and not name.startswith("tmp/"):
                freed += file.stat().st_size
                file.unlink()
                with suppress(OSError):  # the folder has other files
                    file.parent.rmdir()
        return freed

    def discard(self, path: Path) -> None:
        """Removes a file or a folder; a folder stays complete or absent even if the process is killed.

        A store removes a folder's objects one by one. For a cell, the object without which it does not exist is first.
        """
        if path.parent.name == "cells":
            self.store.remove(self._name(path / LAST_OF_CELL))
        self.store.remove(self._name(path))
        self.store.remove_one(self._name(path) + checksums.SUFFIX)
        self.discard_here(path)

    def discard_here(self, path: Path) -> None:
        """Removes a file or a folder of the local copy; what a remote warehouse stores stays."""
        if path.is_dir():
            removed = self.temporary("removed")
            os.rename(path, removed)
            remove(removed)
        remove(path)
        remove(path.with_name(path.name + checksums.SUFFIX))

    @contextmanager
    def replacing(
        self, final: Path, *, flushed: bool = True, stored: bool = True, is_rewritten: bool = False
    ) -> Iterator[Path]:
        """Yields a temporary path to write; on success checks, flushes and renames it to `final`, else removes it.

        In a remote warehouse it is uploaded before it is renamed.

        Args: flushed: False for a file that the caller flushes before it writes the record that names the file. stored:
            False for a file that any machine can make again, which is not uploaded. is_rewritten: `final` is replaced
            repeatedly, so no checksum is kept beside it.

        Raises: WriteError: a Parquet file is not complete.
        """
        temporary = self.temporary(final.stem)
        try:
            yield temporary
            checksums.check_written(temporary, final.name)
            if flushed:
                flush(temporary)
            store = self.store if stored else FolderStore(self.root)
            digests = {} if is_rewritten else checksums.digests_of(temporary, final.name)
            self._store(final, digests, [(temporary, self._name(final))], store)
            final.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, final)
        finally:
            remove(temporary)

    @contextmanager
    def new_folder(self, final: Path, shared: Mapping[str, Path] = MappingProxyType({})) -> Iterator[Path]:
        """Yields a temporary folder to fill; on success checks and flushes its files and renames it to `final`.

        In a remote warehouse the files are uploaded first, a cell's result last: without it the cell does not exist.

        Args: shared: stored files that become part of the folder, by their names in it; they are hard-linked, and
            copied within an object store.

        Raises: WriteError: a Parquet file is not complete.
        """
        temporary = self.temporary(final.stem)
        temporary.mkdir(parents=True)
        try:
            for name, file in shared.items():
                link(file, temporary / name)
            yield temporary
            for file in temporary.iterdir():
                checksums.check_written(file, file.name)
                flush(file)
            known = {name: known for name, file in shared.items() if (known := self.digest_kept(file))}
            digests = checksums.digests_of(temporary, final.name, known)
            copied = [(self._name(file), self._name(final / name)) for name, file in shared.items()]
            own = (file for file in temporary.iterdir() if file.name not in shared)
            files = [(file, self._name(final / file.name)) for file in own]
            self._store(final, digests, files, self.store, copied)
            final.parent.mkdir(parents=True, exist_ok=True)
            name_once(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _store(
        self,
        final: Path,
        digests: dict[str, str],
        files: list[tuple[Path, str]],
        store: Backend,
        copied: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Stores the SHA-256 of each file of `final` beside it, then the files; a cell's result last.

        Of a file that another machine stored first, the SHA-256 of the stored one is kept.
        """
        beside = self._name(final) + checksums.SUFFIX
        if digests:
            store.write(beside, checksums.as_text(digests).encode())
        store.copy(copied)
        stored = store.put(file for file in files if file[0].name != LAST_OF_CELL)
        stored += store.put(file for file in files if file[0].name == LAST_OF_CELL)
        if digests and stored:
            folder = beside.rpartition("/")[0]
            digests |= {name.removeprefix(f"{folder}/"): store.digest(name) for name in stored}
            store.write(beside, checksums.as_text(digests).encode())

    def digests_kept(self, path: Path) -> dict[str, str]:
        """Returns the stored SHA-256 of a file by its name, or of a folder's files by `NAME/FILE`; else nothing."""
        content = self.store.read(self._name(path) + checksums.SUFFIX) or b""
        return checksums.from_text(content.decode(errors="replace"))

    def digest_kept(self, file: Path) -> str | None:
        """Returns the stored SHA-256 of one file, which may be part of a folder; None if none is stored."""
        own = self.digests_kept(file).get(file.name)
        return own or self.digests_kept(file.parent).get(f"{file.parent.name}/{file.name}")

    def write_rows(self, final: Path, rows: list[dict[str, object]], schema: pa.Schema) -> None:
        """Writes rows as one immutable Parquet file with exactly `schema`."""
        with self.replacing(final) as temporary:
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, compression="zstd")

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Holds a lock among the processes of this machine; it is released if its holder is killed."""
        with self._lock_file(name) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    @contextmanager
    def lock_everywhere(self, name: str) -> Iterator[None]:
        """Holds a lock among all machines that use the warehouse; if remote, by a lease (tasks/storage/leases.py)."""
        with self.lock(name), self._leased("lock", f"use/{name}"):
            yield

    @contextmanager
    def appending(self, path: Path) -> Iterator[Callable[[], None]]:
        """Holds the lock of a file that one process at a time appends to; its newest version is fetched first.

        Yields: a function that uploads the file to the store, if there is one.
        """
        name = self._name(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.lock_everywhere(path.name):
            if self.is_remote and (content := self.store.read(name)):
                path.write_bytes(content)
            yield lambda: self.store.write(name, path.read_bytes()) if self.is_remote else None

    @contextmanager
    def in_use(self, on_wait: Callable[[], None] = lambda: None, *, reads_only: bool = False) -> Iterator[None]:
        """Holds the warehouse together with other flows; no stored file is removed during the block.

        Args: on_wait: called once if upkeep on another machine is waited for. reads_only: nothing is stored during the
            block. A remote warehouse then gets no lease, so write access is not needed, and files that upkeep considers
            unused stay only for its grace period.
        """
        with self._lock_file("use", reads_only=reads_only) as handle:
            fcntl.flock(handle, fcntl.LOCK_SH)
            with nullcontext() if reads_only else self._leased("flow", on_wait=on_wait):
                yield

    @contextmanager
    def alone(self, wait: float, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Holds the warehouse exclusively; flows that start during the block wait.

        Args: wait: seconds to wait for running flows. on_wait: called once if there are any.

        Raises: UserError: a flow is still running after that time.
        """
        deadline = time.monotonic() + wait
        with self._lock_file("use") as handle:
            if not _lock_now(handle):
                on_wait()
            while not _lock_now(handle):
                if time.monotonic() >= deadline:
                    raise UserError(in_use_message(self.address, f"after {wait:g} s"))
                time.sleep(POLL_SECONDS)
            try:
                with self._leased("upkeep", wait=deadline - time.monotonic(), on_wait=on_wait):
                    yield
            except HeldError as error:
                raise UserError(in_use_message(self.address, f"{error}, after {wait:g} s")) from error

    def users(self) -> set[tuple[str, int]] | None:
        """Returns host and process id of every holder of a remote warehouse; None for a local one: locks have no names.

        The caller must hold the warehouse, too.
        """
        return (
            {(one["host"], int(one["pid"])) for one in holders(self.store).values()}
            if isinstance(self.store, Store)
            else None
        )

    def _leased(self, by: Holder, folder: str = FOLDER, **waiting: Any) -> AbstractContextManager[None]:
        """Holds a lease among machines. A local warehouse needs none: the file locks of one machine are enough."""
        return held(self.store, by, folder, **waiting) if isinstance(self.store, Store) else nullcontext()

    def _lock_file(self, name: str, *, reads_only: bool = False) -> IO[str]:
        """Opens a lock file. Args: reads_only: the warehouse may be read-only; an existing lock file is then used."""
        file = self.root / "tmp" / f"{name}.lock"
        if not reads_only or os.access(file.parent, os.W_OK):
            return file.open("w")
        return file.open() if file.exists() else (self.scratch / file.name).open("w")


def _named(named: str | Path | None) -> Warehouse:
    address = str(named or os.environ.get("MUSIC_WAREHOUSE") or "warehouse")
    if not is_text(address):
        raise UserError(
            f"{address}: is not text in UTF-8 to this process. Give the warehouse another path, or set PYTHONUTF8=1 if "
            "the locale is not in UTF-8."
        )
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/(?!/)", address):
        raise UserError(
            f"{address}: is neither a path nor a URL. A URL has two slashes: {address.replace(':/', '://', 1)}"
        )
    if "://" not in address:
        return Warehouse(root := Path(address).expanduser().resolve(), FolderStore(root))
    store = Store.at(address)
    cache = os.environ.get("MUSIC_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "music-benchmark"
    readable = re.sub(r"\W+", "-", public_name(store.url))[:60]
    return Warehouse(Path(cache).expanduser().resolve() / f"{readable}-{digest(store.url)}", store)


def _lock_now(handle: IO[str]) -> bool:
    """Locks a file exclusively without waiting. Returns: whether that succeeded."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def in_use_message(address: str, detail: str) -> str:
    """Returns the message that a warehouse is in use, so that nothing may be removed."""
    return f"{address}: still in use ({detail}); nothing was removed. Try again later, or wait longer with --wait."


def remove(path: Path) -> None:
    """Removes a file, or a folder with its content; no error if it does not exist."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_database(path: Path) -> None:
    """Removes a DuckDB file, with the files that DuckDB leaves beside it after a failed write."""
    for left in (path, path.with_name(f"{path.name}.wal"), path.with_name(f"{path.name}.tmp")):
        remove(left)


def name_once(temporary: Path, final: Path) -> None:
    """Renames a file or a folder to its final name; an equal folder that another process put there stays."""
    try:
        os.replace(temporary, final)
    except OSError:
        if not final.is_dir():
            raise


def link(file: Path, name: Path) -> None:
    """Hard-links a file to another name, or copies it if the file system has no hard links."""
    try:
        os.link(file, name)
    except OSError:
        shutil.copyfile(file, name)


def flush(path: Path) -> None:
    """Flushes a file to the disk."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
