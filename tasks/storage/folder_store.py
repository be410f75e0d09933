"""The store of a local warehouse, and what all stores have in common."""

from __future__ import annotations

import os
import re
import socket
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import psutil

from tasks.storage.checksums import digest_of


class Backend(Protocol):
    """Where the files of a warehouse are stored. A name is the path of a file below the root of the warehouse."""

    is_remote: ClassVar[bool]  # whether each machine works on a local copy

    @property
    def url(self) -> str:
        """The path or URL of the store."""
        ...

    def make(self) -> None:
        """Creates the store if it does not exist."""
        ...

    def exists(self) -> bool:
        """Whether there is a store."""
        ...

    def read(self, name: str) -> bytes | None:
        """Returns the content of a small file; None if it does not exist."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Writes a small file, in place of an existing one; readers see the old or the new one."""
        ...

    def digest(self, name: str) -> str:
        """Returns the SHA-256 of a file in hexadecimal. Raises: FileNotFoundError: it does not exist."""
        ...

    def names(self, folder: str) -> list[str]:
        """Returns the names of the files directly in a folder, sorted."""
        ...

    def below(self, folder: str, start: str) -> list[str]:
        """Returns the paths, relative to `folder`, of all files below it whose paths begin with `start`, sorted."""
        ...

    def folders(self, folder: str) -> list[str]:
        """Returns the names of the folders in a folder, in no order."""
        ...

    def sizes(self) -> dict[str, int]:
        """Returns the size of every file in bytes, by its name."""
        ...

    def get(self, files: Iterable[tuple[str, Path]]) -> None:
        """Fetches files, each to a new local file; one that does not exist is skipped."""
        ...

    def put(self, files: Iterable[tuple[Path, str]]) -> list[str]:
        """Uploads local files, in any order. Returns: the names that were stored already, whose content stays."""
        ...

    def copy(self, names: Iterable[tuple[str, str]]) -> None:
        """Copies stored files, each to another name."""
        ...

    def remove(self, name: str) -> None:
        """Removes a file, or a folder; no error if it does not exist."""
        ...

    def remove_one(self, name: str) -> None:
        """Removes a file by a single request; no error if it does not exist."""
        ...


@dataclass(frozen=True, slots=True)
class FolderStore:
    """The store of a local warehouse: its folder. A file is stored by being there, so transfers have nothing to do."""

    root: Path
    is_remote: ClassVar[bool] = False

    @property
    def url(self) -> str:
        """The path of the folder."""
        return str(self.root)

    def make(self) -> None:
        """Does nothing: the folder is created with the first file."""

    def exists(self) -> bool:
        """Whether there is a folder."""
        return self.root.is_dir()

    def read(self, name: str) -> bytes | None:
        """Returns the content of a file; None if it does not exist."""
        with suppress(FileNotFoundError):
            return (self.root / name).read_bytes()
        return None

    def write(self, name: str, content: bytes) -> None:
        """Writes a file under a temporary name, and renames it."""
        final, temporary = self.root / name, temporary_in(self.root / "tmp", "written")
        try:
            temporary.write_bytes(content)
            final.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, final)
        finally:
            temporary.unlink(missing_ok=True)

    def digest(self, name: str) -> str:
        """Returns the SHA-256 of a file in hexadecimal. Raises: FileNotFoundError: it does not exist."""
        return digest_of(self.root / name)

    def names(self, folder: str) -> list[str]:
        """Returns the names of the files directly in a folder, sorted."""
        return sorted(entry.name for entry in self._entries(folder) if entry.is_file())

    def below(self, folder: str, start: str) -> list[str]:
        """Returns the paths, relative to `folder`, of all files below it whose paths begin with `start`, sorted."""
        found = []
        for entry in self._entries(folder):
            if not entry.name.startswith(start[: len(entry.name)]):
                continue
            files = [Path(entry.path)] if entry.is_file() else _walked(entry.path)
            found += [file.relative_to(self.root / folder).as_posix() for file in files]
        return sorted(path for path in found if path.startswith(start))

    def folders(self, folder: str) -> list[str]:
        """Returns the names of the folders in a folder, in no order."""
        return [entry.name for entry in self._entries(folder) if entry.is_dir()]

    def sizes(self) -> dict[str, int]:
        """Returns the size of every file in bytes, by its name, without temporary files.

        The size of a file with several names (hard links) is divided among them.
        """
        found = {}
        for file in _walked(self.root, without=self.root / "tmp"):
            with suppress(FileNotFoundError):
                status = file.lstat()
                found[file.relative_to(self.root).as_posix()] = status.st_size // status.st_nlink
        return found

    def get(self, files: Iterable[tuple[str, Path]]) -> None:
        """Does nothing."""

    def put(self, files: Iterable[tuple[Path, str]]) -> list[str]:  # noqa: ARG002 - the protocol's parameter
        """Does nothing. Returns: no names."""
        return []

    def copy(self, names: Iterable[tuple[str, str]]) -> None:
        """Does nothing."""

    def remove(self, name: str) -> None:
        """Does nothing."""

    def remove_one(self, name: str) -> None:
        """Does nothing."""

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.root / folder) as entries:
                return list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []


def temporary_in(folder: Path, label: str) -> Path:
    """Returns a new path in a folder. Its name tells the host and the process, so leftovers of dead ones are found."""
    return folder / f"{label}-{uuid.uuid4().hex[:8]}.{socket.gethostname()}.{os.getpid()}.tmp"


def is_gone(owner: re.Match[str]) -> bool:
    """Whether the process `pid` on `host` was one of this machine and has ended; those of others cannot be seen."""
    return owner["host"] == socket.gethostname() and not psutil.pid_exists(int(owner["pid"]))


def _walked(top: Path | str, without: Path | None = None) -> Iterator[Path]:
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if Path(folder, name) != without]
        yield from (Path(folder, name) for name in names)
