"""The object store of a remote warehouse: objects below a URL, accessed by any of fsspec's file systems.

An object is complete or absent: where a put is not atomic, the object is written under another name and renamed.
Objects are never overwritten; of two machines that write the same one, the first wins. Exceptions are reports, the
journals of tuning searches, leases (tasks/storage/leases.py), and `manifest.json`, which names the publication.

The file system's library reads credentials and endpoint from the environment, and repeats requests that fail for the
moment.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import fsspec
from fsspec.spec import AbstractFileSystem

from tasks.errors import UserError, one_line
from tasks.storage.urls import has_secrets, public_name

WHOLE_PUTS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"}  # a put is atomic, a rename is not
CREATES = {"s3", "s3a", "gs", "gcs"}  # can put an object on condition that there is none
IN_PARTS = {"s3", "s3a"}  # keep the parts of an interrupted upload until it is aborted
UPLOAD = "?uploadId="
REWRITTEN = ("manifest.json", "reports/")
AT_ONCE = 8  # objects transferred at a time
ABOUT = "about.txt"
ABOUT_TEXT = b"A warehouse of music-benchmark; manifest.json names what is published.\n"


class StoreError(UserError):
    """A request to the object store failed; trying again may help."""


@dataclass(frozen=True, slots=True)
class Store:
    """The objects below `url`; an object's name is its path below it."""

    url: str
    is_remote: ClassVar[bool] = True

    @classmethod
    def at(cls, url: str) -> Store:
        """Opens the store at a URL. Raises: UserError: the URL holds secrets, or no installed package reads it."""
        if has_secrets(url):
            raise UserError(
                f"{public_name(url)}: a warehouse's URL must not hold a user, a password or a query: those would be "
                "stored with it. Give credentials by the environment."
            )
        store = cls(url.rstrip("/"))
        try:
            _opened(store.url, os.getpid())
        except ImportError as error:
            raise UserError(
                f"{store.url}: needs another package ({one_line(error)}); for s3: pip install s3fs."
            ) from error
        except ValueError as error:
            raise UserError(f"{store.url}: is no address of a warehouse ({one_line(error)}).") from error
        return store

    def make(self) -> None:
        """Marks the store as a warehouse, if it is not yet. Raises: StoreError: it cannot be written to."""
        if self.read(ABOUT) is None:
            self.write(ABOUT, ABOUT_TEXT)

    def exists(self) -> bool:
        """Whether the store is a warehouse."""
        return self.read(ABOUT) is not None

    def read(self, name: str) -> bytes | None:
        """Returns the content of a small object; None if it does not exist."""
        with self._errors_reported("read"):
            try:
                return bytes(self._filesystem.cat_file(self._path(name)))
            except FileNotFoundError:
                return None

    def digest(self, name: str) -> str:
        """Returns the SHA-256 of an object in hexadecimal. Raises: FileNotFoundError: the object does not exist."""
        with self._errors_reported("read"):
            try:
                with self._filesystem.open(self._path(name), "rb") as file:
                    return hashlib.file_digest(file, "sha256").hexdigest()
            except FileNotFoundError as error:
                gone = error
        raise gone

    def write(self, name: str, content: bytes) -> None:
        """Writes a small object, in place of an existing one."""
        with self._errors_reported("written"), self._whole(name) as path:
            self._filesystem.pipe_file(path, content)

    def modified(self, name: str) -> datetime | None:
        """Returns when an object was written, by the store's clock; None if it does not exist."""
        with self._errors_reported("read"):
            try:
                found: datetime = self._filesystem.modified(self._path(name))
            except FileNotFoundError:
                return None
            return found

    def sizes(self) -> dict[str, int]:
        """Returns the size of every object in bytes, by path."""
        root = self._path("")
        with self._errors_reported("listed"):
            try:
                found = self._filesystem.find(root, detail=True)
            except FileNotFoundError:
                return {}
        below = root.lstrip("/")
        return {path.lstrip("/").removeprefix(below): int(entry["size"] or 0) for path, entry in found.items()}

    def names(self, folder: str) -> list[str]:
        """Returns the names of the objects directly in a folder, sorted."""
        path = self._path(folder)
        with self._errors_reported("listed"):
            try:
                found = self._filesystem.ls(path, detail=True)
            except FileNotFoundError:
                return []
        parts = [entry["name"].rpartition("/") for entry in found if entry["type"] == "file"]
        return sorted(name for parent, _, name in parts if parent.strip("/") == path.strip("/"))  # not an object's own

    def below(self, folder: str, start: str) -> list[str]:
        """Returns the paths, relative to `folder`, of all objects below it whose paths begin with `start`, sorted."""
        with self._errors_reported("listed"):
            try:
                found = self._filesystem.find(self._path(folder), prefix=start)
            except FileNotFoundError:
                return []
        paths = (path.rpartition(f"/{folder}/")[2] for path in found)
        return sorted(path for path in paths if path.startswith(start))

    def folders(self, folder: str) -> list[str]:
        """Returns the names of the folders in a folder, in no order."""
        return list({path.split("/")[0] for path in self.below(folder, "") if "/" in path})

    def get(self, files: Iterable[tuple[str, Path]]) -> None:
        """Fetches objects, each to a new file; an object that does not exist is skipped."""
        self._each(self._get, files)

    def put(self, files: Iterable[tuple[Path, str]]) -> list[str]:
        """Uploads files, in any order.

        Returns: the names of objects that another machine wrote first: they stay as they are.

        Raises: StoreError: one of them was not uploaded.
        """
        return [name for name in self._each(self._put, files) if name]

    def copy(self, names: Iterable[tuple[str, str]]) -> None:
        """Copies objects, each to another name, within the store where it can do that."""
        self._each(self._copy, names)

    def remove(self, name: str) -> None:
        """Removes an object, a folder, or an upload named by `interrupted`; no error if it does not exist."""
        name, _, upload = name.partition(UPLOAD)
        with self._errors_reported("changed"), suppress(FileNotFoundError):
            if upload:
                bucket, key, _ = self._filesystem.split_path(self._path(name))
                self._filesystem.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload)
            else:
                self._filesystem.rm(self._path(name), recursive=True)

    def remove_one(self, name: str) -> None:
        """Removes one object by a single request; no error if it does not exist."""
        with self._errors_reported("changed"), suppress(FileNotFoundError):
            self._filesystem.rm_file(self._path(name))

    def interrupted(self) -> Iterator[tuple[str, datetime, int]]:
        """Yields unfinished writes, in progress or left by a killed process: name, start time, and bytes so far.

        These are temporary objects and, in S3, at most a thousand uploads in parts, which no listing of objects shows.
        """
        for name in self.names("tmp"):
            if at := self.modified(f"tmp/{name}"):
                yield f"tmp/{name}", at, self._filesystem.size(self._path(f"tmp/{name}")) or 0
        if self._scheme in IN_PARTS:
            bucket, prefix, _ = self._filesystem.split_path(self._path(""))
            prefix = prefix.lstrip("/")
            with self._errors_reported("listed"):
                found = self._filesystem.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
                for upload in found.get("Uploads", []):
                    named = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                    parts = self._filesystem.call_s3("list_parts", **named).get("Parts", [])
                    name = f"{upload['Key'].removeprefix(prefix)}{UPLOAD}{upload['UploadId']}"
                    yield name, upload["Initiated"], sum(part["Size"] for part in parts)

    def _get(self, name: str, local: Path) -> None:
        with self._errors_reported("read"):
            try:
                self._filesystem.get_file(self._path(name), str(local))
            except FileNotFoundError:
                local.unlink(missing_ok=True)
        if local.is_dir():  # some file systems fetch a folder as a folder
            local.rmdir()

    def _put(self, local: Path, name: str) -> str | None:
        with self._errors_reported("written"):
            try:
                with self._whole(name) as path:
                    if name.startswith(REWRITTEN):
                        self._filesystem.pipe_file(path, local.read_bytes())
                    else:
                        only_new = {"mode": "create"} if self._scheme in CREATES else {}
                        self._filesystem.put_file(str(local), path, **only_new)
            except FileExistsError:
                return name
        return None

    def _copy(self, name: str, other: str) -> None:
        with self._errors_reported("written"), self._whole(other) as path:
            self._filesystem.cp_file(self._path(name), path)

    @contextmanager
    def _whole(self, name: str) -> Iterator[str]:
        """Yields the path to write an object to, so that it is complete or absent to readers."""
        path = self._path(name)
        if self._scheme in WHOLE_PUTS:
            yield path
            return
        temporary = self._path(f"tmp/{uuid.uuid4().hex}")
        for folder in (temporary, path):
            self._filesystem.makedirs(folder.rpartition("/")[0], exist_ok=True)
        yield temporary
        self._filesystem.mv(temporary, path)

    @staticmethod
    def _each(do: Callable[[Any, Any], Any], files: Iterable[tuple[Any, Any]]) -> list[Any]:
        pending = list(files)
        if len(pending) < 2:
            return [do(*file) for file in pending]
        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            return [done.result() for done in [pool.submit(do, *file) for file in pending]]

    def _path(self, name: str) -> str:
        return f"{_opened(self.url, os.getpid())[1]}/{name}"

    @property
    def _scheme(self) -> str:
        return self.url.partition("://")[0]

    @property
    def _filesystem(self) -> Any:
        return _opened(self.url, os.getpid())[0]

    @contextmanager
    def _errors_reported(self, done: str) -> Iterator[None]:
        """Turns any error of a library into a StoreError of one line. Args: done: a participle, such as read."""
        try:
            yield
        except Exception as error:
            raise StoreError(
                f"{self.url}: cannot be {done} ({type(error).__name__}: {one_line(error)[:200]}). Check that it is "
                "there, and the environment's endpoint and credentials; the same command goes on from what is stored."
            ) from error


class Mirror(AbstractFileSystem):  # type: ignore[misc]
    """A file system through which DuckDB reads the store's URLs; a file is fetched when it is first read."""

    cachable = False

    def __init__(self, url: str, here: Callable[[str], Path]) -> None:
        super().__init__()
        self.protocol = url.partition("://")[0]
        self._below = f"{url}/"
        self._here = here

    def _local(self, path: str) -> Path:
        return self._here(path.removeprefix(self._below))

    def glob(self, path: str, **_: Any) -> list[str]:
        """Returns the path itself if it is stored: views name every file, so there are no patterns."""
        return [path] if self._local(path).is_file() else []

    def exists(self, path: str, **_: Any) -> bool:
        """Whether the file is stored."""
        return self._local(path).is_file()

    def info(self, path: str, **_: Any) -> dict[str, object]:
        """Returns the size of the file in bytes."""
        return {"name": path, "size": self._local(path).stat().st_size, "type": "file"}

    def modified(self, path: str) -> datetime:
        """Returns when the file was fetched; files never change."""
        return datetime.fromtimestamp(self._local(path).stat().st_mtime, tz=UTC)

    def open(self, path: str, mode: str = "rb", **_: Any) -> _OfManyThreads:
        """Opens the local copy of the file."""
        return _OfManyThreads(self._local(path), mode)


class _OfManyThreads(io.FileIO):
    """A file to read that has a separate position for each thread.

    DuckDB's threads share open files, and seek in one call and read in the next. With one shared position they would
    read each other's bytes.
    """

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self._size = os.fstat(self.fileno()).st_size
        self._own = threading.local()

    def tell(self) -> int:
        return getattr(self._own, "position", 0)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._size}[whence]
        self._own.position = start + offset
        return self.tell()

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self._size - self.tell(), 0)
        content = os.pread(self.fileno(), left if size is None or size < 0 else min(size, left), self.tell())
        self._own.position = self.tell() + len(content)
        return content


def let_read(connection: duckdb.DuckDBPyConnection, url: str, here: Callable[[str], Path]) -> None:
    """Lets DuckDB read a store's URLs. Args: here: maps a path below the store's URL to the local copy."""
    mirror = Mirror(url, here)
    if connection.filesystem_is_registered(mirror.protocol):
        connection.unregister_filesystem(mirror.protocol)
    connection.register_filesystem(mirror)


@cache
def _opened(url: str, _process: int) -> tuple[Any, str]:
    """Returns the file system and path of a URL, opened once per process: connections do not survive a fork."""
    filesystem, path = fsspec.url_to_fs(url, skip_instance_cache=True, use_listings_cache=False)
    return filesystem, str(path).rstrip("/")
