"""Where the project keeps its data. Everything that touches stored files goes through here.

The truth is immutable Parquet: written under a temporary name that no `*.parquet` glob matches, flushed to disk, then
renamed to a final name that is never written again. Killed and concurrent runs therefore lose and block nothing. (A
search for settings appends to a journal as well, see tasks/training/tuning.py.)

A warehouse at a URL has a working copy on each machine that uses it. What is stored is put there before it gets its
final name here, and fetched when it is first needed; what there is, is asked of the store each time.
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
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import duckdb
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import UserError, is_text
from tasks.storage import checksums
from tasks.storage.duck import digest
from tasks.storage.leases import HeldError, held, holders
from tasks.storage.object_store import Store, let_read
from tasks.storage.urls import public_name

LOG = logging.getLogger(__name__)
POLL_SECONDS = 0.1
MANIFEST = "manifest.json"
LAST_OF_CELL = "result.parquet"  # a cell counts once it is there
OWNER = re.compile(r"\.(?P<host>[^/]+)\.(?P<pid>\d+)\.tmp(\..+)?$")  # DuckDB adds .wal and .tmp


@dataclass(frozen=True, slots=True)
class Warehouse:
    """The folders of one warehouse.

    Args: root: absolute; of a warehouse elsewhere its working copy here, which may be deleted. store: where it is then.
    """

    root: Path
    store: Store | None = None

    @classmethod
    def at(cls, root: str | Path | None = None) -> Warehouse:
        """The warehouse at `root` (path or URL), else at `$MUSIC_WAREHOUSE`, else `./warehouse`; made if not there.

        Raises: UserError: the folder or the store cannot be made or written to.
        """
        warehouse = _named(root)
        path = warehouse.root
        if glob.has_magic(warehouse.address):
            raise UserError(
                f"{warehouse.address}: a warehouse's path must not hold any of * ? [, which DuckDB would expand."
            )
        is_new = not (path / "tmp").is_dir()
        if is_new and warehouse.store:
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
    def existing(cls, root: str | Path | None = None, advice: str = "Choose another with --warehouse.") -> Warehouse:
        """As `at`, of a warehouse that holds something; nothing is made. Args: advice: what to do if there is none.

        Raises: UserError: there is none, or it cannot be written to.
        """
        cls.to_read(root, advice)
        return cls.at(root)

    @classmethod
    def to_read(cls, root: str | Path | None = None, advice: str | None = None) -> Warehouse:
        """A warehouse for who only reads: nothing is made but a working copy, and it may be read-only.

        Args: advice: what to do if it holds nothing; by default an empty one is one, too.
        Raises: UserError: there is none.
        """
        warehouse = _named(root)
        if not (warehouse.store.exists() if warehouse.store else warehouse.root.is_dir()):
            raise UserError(f"{warehouse.address}: is no warehouse. {advice or 'Choose another with --warehouse.'}")
        if advice and not (
            warehouse.store.names("raw/snapshots") if warehouse.store else (warehouse.root / "raw").is_dir()
        ):
            raise UserError(f"{warehouse.address}: is no warehouse, or an empty one (it has no raw/). {advice}")
        if warehouse.store:
            (warehouse.root / "tmp").mkdir(parents=True, exist_ok=True)
        return warehouse

    @property
    def scratch(self) -> Path:
        """A folder for what is gone when a process ends: `tmp/`, of a read-only warehouse one of this machine's."""
        own = self.root / "tmp"
        if os.access(own, os.W_OK):
            return own
        folder = Path(tempfile.gettempdir()) / f"music-benchmark-{os.getuid()}-{digest(self.address)}"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    @property
    def address(self) -> str:
        """What it is named by: `at(address)` is this warehouse, on any machine that reaches it."""
        return self.store.url if self.store else str(self.root)

    @property
    def database(self) -> Path:
        """The published DuckDB file that people query; only ever replaced. Of a store the newest is fetched."""
        published = (self.manifest() or {}).get("database") if self.store else None
        return self.here(published or "music.duckdb")

    @property
    def client(self) -> str:
        """The start of a command that asks the published database one question."""
        return f"python -m flows.query --warehouse {shlex.quote(self.address)}"

    def manifest(self) -> dict[str, Any] | None:
        """What is published (tasks/results/open_tables.py); None: nothing is, or what says so is damaged."""
        path = self.root / MANIFEST
        content = self.store.read(MANIFEST) if self.store else path.read_bytes() if path.exists() else None
        try:
            return json.loads(content) if content else None
        except ValueError:
            LOG.warning("%s: %s is damaged. Publish again: any run does.", self.address, MANIFEST)
            return None

    def here(self, path: str | Path) -> Path:
        """Where a stored file is on this machine, fetched if need be; there is no file if it is not stored.

        Args: path: below the root, or absolute.
        """
        local = self.root / path
        self.fetch([local])
        return local

    def parts(self, path: str | Path) -> list[Path]:
        """The files of a table, which may be a folder of them (see features/append.py), here; the newest rows' last."""
        local = self.here(path)
        return sorted(local.glob("*.parquet")) if local.is_dir() else [local]

    def fetch(self, paths: Iterable[Path]) -> None:
        """Have stored files, or tables that are folders of them, of a warehouse elsewhere here; they never change."""
        missing = [path for path in dict.fromkeys(paths) if self.store and not path.exists()]
        if not self.store or not missing:
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
        if self.store and (names := self.store.names(self._name(folder))):
            temporary.mkdir()
            self.store.get((self._name(folder / name), temporary / name) for name in names)

    def location(self, path: str | Path) -> str:
        """How the views of the published database name a stored file: by path, or by URL of a warehouse elsewhere."""
        return f"{self.store.url}/{self._name(self.root / path)}" if self.store else str(self.root / path)

    def let_read(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Have DuckDB read what `location` names."""
        if self.store:
            let_read(connection, self.store, self.here)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def table(self, schema: str, name: str, version: str) -> Path:
        """The one file of one version of a table."""
        return self.root / schema / name / f"{version}.parquet"

    def files(self, schema: str, name: str) -> list[Path]:
        """Every stored version of a table, oldest name first; temporary files are not listed."""
        folder = self.root / schema / name
        if self.store is None:
            return sorted(folder.glob("*.parquet"))
        stored = [folder / file for file in self.store.names(f"{schema}/{name}") if file.endswith(".parquet")]
        self.fetch(stored)
        return [file for file in stored if file.exists()]

    def cell(self, result: str) -> Path:
        """The folder of a finished cell: it exists whole or not at all."""
        return self.root / "cells" / result

    def results(self, key: str) -> list[str]:
        """The names of the finished cells of a key, oldest first: those whose last file is there."""
        if self.store is None:
            finished = sorted((self.root / "cells").glob(f"{key}-*/{LAST_OF_CELL}"))
            return [file.parent.name for file in finished]
        paths = (path.split("/") for path in self.store.below("cells", f"{key}-"))
        return sorted(folder for folder, *rest in paths if rest == [LAST_OF_CELL])

    def folders(self, folder: str) -> list[str]:
        """The names of the folders in a folder, in no order."""
        if self.store:
            return list({path.split("/")[0] for path in self.store.below(folder, "") if "/" in path})
        return [path.name for path in (self.root / folder).glob("*") if path.is_dir()]

    def sizes(self) -> dict[str, int]:
        """The bytes of every stored file, by its path below the root; what is being written is not there.

        A file that has several names (hard links) counts by its share for each.
        """
        if self.store:
            return self.store.sizes()
        found = {}
        for folder, folders, names in os.walk(self.root):
            folders[:] = [name for name in folders if Path(folder, name) != self.root / "tmp"]
            for file in (Path(folder, name) for name in names):
                with suppress(FileNotFoundError):
                    status = file.lstat()
                    found[self._name(file)] = status.st_size // status.st_nlink
        return found

    def report(self, run_id: str) -> Path:
        """The HTML report of a run."""
        return self.root / "reports" / f"{run_id}.html"

    def temporary(self, label: str) -> Path:
        """A new name in `scratch`, on the same file system as what is written, so that renames are atomic."""
        return self.scratch / f"{label}-{uuid.uuid4().hex[:8]}.{socket.gethostname()}.{os.getpid()}.tmp"

    def sweep(self) -> None:
        """Remove what processes of this machine that are gone left under `tmp/`."""
        for left in self.scratch.iterdir():
            owner = OWNER.search(left.name)
            if owner and owner["host"] == socket.gethostname() and not psutil.pid_exists(int(owner["pid"])):
                remove(left)

    def tidy_copy(self, stored: Collection[str]) -> int:
        """Remove from the working copy what is not stored any more. Args: stored: all that is. Returns: bytes."""
        self.sweep()
        freed = 0
        for file in [file for file in self.root.rglob("*") if file.is_file()]:
            name = self._name(file)
            if name not in stored and not name.startswith("tmp/"):
                freed += file.stat().st_size
                file.unlink()
                with suppress(OSError):  # it holds others
                    file.parent.rmdir()
        return freed

    def discard(self, path: Path) -> None:
        """Remove a file or a folder: a folder is there whole or not at all, even if this is killed.

        In a store a folder's objects go one after the other, first the one without which a cell's others do not count.
        """
        if self.store:
            if path.parent.name == "cells":
                self.store.remove(self._name(path / LAST_OF_CELL))
            self.store.remove(self._name(path))
            self.store.remove_one(self._name(path) + checksums.SUFFIX)
        self.discard_here(path)

    def discard_here(self, path: Path) -> None:
        """As `discard`; of a warehouse elsewhere only what is here."""
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
        """Yield a temporary path to write; on success check and flush it and rename it to `final`, else remove it.

        Where there is a store it is put there first. Args: flushed: off for a file that counts only once a record names
            it, and is flushed before that record is written. stored: off for one that any machine can make again.
            is_rewritten: what is at `final` is replaced again and again, so that no checksum is kept beside it.
        Raises: WriteError: a Parquet file is not whole.
        """
        temporary = self.temporary(final.stem)
        try:
            yield temporary
            checksums.check_written(temporary, final.name)
            if flushed:
                flush(temporary)
            is_stored = self.store is not None and stored
            if not is_rewritten:
                self._keep_digests(final, checksums.digests_of(temporary, final.name), is_stored=is_stored)
            if self.store and is_stored:
                self.store.put([(temporary, self._name(final))])
            final.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, final)
        finally:
            remove(temporary)

    @contextmanager
    def new_folder(self, final: Path, shared: Mapping[str, Path] = MappingProxyType({})) -> Iterator[Path]:
        """Yield a temporary folder to fill; on success check and flush its files and rename it to `final`.

        Where there is a store they are put there first, a cell's result last: without it the others do not count.
        Args: shared: stored files that it has, too, by their names there: hard links, in a store copies made by it.
        Raises: WriteError: a Parquet file is not whole.
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
            self._keep_digests(
                final, checksums.digests_of(temporary, final.name, known), is_stored=self.store is not None
            )
            if self.store:
                self.store.copy((self._name(file), self._name(final / name)) for name, file in shared.items())
                own = (file for file in temporary.iterdir() if file.name not in shared)
                files = [(file, self._name(final / file.name)) for file in own]
                self.store.put(file for file in files if file[0].name != LAST_OF_CELL)
                self.store.put(file for file in files if file[0].name == LAST_OF_CELL)
            final.parent.mkdir(parents=True, exist_ok=True)
            name_once(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _keep_digests(self, final: Path, digests: Mapping[str, str], *, is_stored: bool) -> None:
        """Keep what a file or a folder that is about to be called `final` consists of, beside it."""
        beside = final.with_name(final.name + checksums.SUFFIX)
        text = checksums.as_text(digests)
        if self.store and is_stored:
            self.store.write(self._name(beside), text.encode())
            return
        temporary = self.temporary("sha256")
        try:
            temporary.write_text(text, encoding="utf-8")
            beside.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, beside)
        finally:
            remove(temporary)

    def digests_kept(self, path: Path) -> dict[str, str]:
        """What was kept of a stored file or folder: SHA-256 by name, of a folder's files `NAME/FILE`; else nothing."""
        beside = path.with_name(path.name + checksums.SUFFIX)
        if self.store:
            content = self.store.read(self._name(beside)) or b""
        else:
            content = beside.read_bytes() if beside.exists() else b""
        return checksums.from_text(content.decode(errors="replace"))

    def digest_kept(self, file: Path) -> str | None:
        """The SHA-256 that was kept of one stored file, which may be part of a folder that was written whole."""
        own = self.digests_kept(file).get(file.name)
        return own or self.digests_kept(file.parent).get(f"{file.parent.name}/{file.name}")

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
    def lock_everywhere(self, name: str) -> Iterator[None]:
        """As `lock`; of a warehouse elsewhere other machines respect it, too, by a note (tasks/storage/leases.py)."""
        with self.lock(name), held(self.store, "lock", f"use/{name}") if self.store else nullcontext():
            yield

    @contextmanager
    def appending(self, path: Path) -> Iterator[Callable[[], None]]:
        """Hold a file that one process at a time appends to; it is the newest there is.

        Yields: what puts it to the store, if there is one, in the place of what was there.
        """
        name = self._name(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.lock_everywhere(path.name):
            store = self.store
            if store and (content := store.read(name)):
                path.write_bytes(content)
            yield lambda: store.write(name, path.read_bytes()) if store else None

    @contextmanager
    def in_use(self, on_wait: Callable[[], None] = lambda: None, *, reads_only: bool = False) -> Iterator[None]:
        """Hold the warehouse, as many flows may at once: whatever they find stored stays until they let go.

        Args: on_wait: called once if upkeep of another machine is waited for. reads_only: what is found becomes part
            of nothing that is stored; of a warehouse elsewhere, which it then need not be allowed to write to, it only
            stays as long as upkeep's grace.
        """
        with self._lock_file("use", reads_only=reads_only) as handle:
            fcntl.flock(handle, fcntl.LOCK_SH)
            with held(self.store, "flow", on_wait=on_wait) if self.store and not reads_only else nullcontext():
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
                    raise UserError(in_use_message(self.address, f"after {wait:g} s"))
                time.sleep(POLL_SECONDS)
            if self.store is None:
                yield
                return
            try:
                with held(self.store, "upkeep", wait=deadline - time.monotonic(), on_wait=on_wait):
                    yield
            except HeldError as error:
                raise UserError(in_use_message(self.address, f"{error}, after {wait:g} s")) from error

    def users(self) -> set[tuple[str, int]] | None:
        """Host and process of the flows that hold a warehouse elsewhere; None of one here: locks tell no names.

        Asked for by who holds it, too.
        """
        return {(one["host"], int(one["pid"])) for one in holders(self.store).values()} if self.store else None

    def _lock_file(self, name: str, *, reads_only: bool = False) -> IO[str]:
        """Args: reads_only: of a read-only warehouse, too, where a lock file that others made is locked."""
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
        return Warehouse(Path(address).expanduser().resolve())
    store = Store.at(address)
    cache = os.environ.get("MUSIC_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "music-benchmark"
    readable = re.sub(r"\W+", "-", public_name(store.url))[:60]
    return Warehouse(Path(cache).expanduser().resolve() / f"{readable}-{digest(store.url)}", store)


def _lock_now(handle: IO[str]) -> bool:
    """Lock for this process alone; whether that was possible at once."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def in_use_message(address: str, detail: str) -> str:
    """Why nothing may be removed now."""
    return f"{address}: still in use ({detail}); nothing was removed. Try again later, or wait longer with --wait."


def remove(path: Path) -> None:
    """Remove a file, or a folder with what is in it; no error if it is gone already."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_database(path: Path) -> None:
    """Remove a DuckDB file, with what DuckDB leaves beside it when writing fails."""
    for left in (path, path.with_name(f"{path.name}.wal"), path.with_name(f"{path.name}.tmp")):
        remove(left)


def name_once(temporary: Path, final: Path) -> None:
    """Give a file or a folder its final name; a folder that another process gave it meanwhile stays: it is equal."""
    try:
        os.replace(temporary, final)
    except OSError:
        if not final.is_dir():
            raise


def link(file: Path, name: Path) -> None:
    """Give a file another name; where the file system knows no hard links, copy it."""
    try:
        os.link(file, name)
    except OSError:
        shutil.copyfile(file, name)


def flush(path: Path) -> None:
    """Have the operating system write a file to the disk now."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


@contextmanager
def replacing_beside(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` to write, renamed to it on success; what killed runs left there is removed."""
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
