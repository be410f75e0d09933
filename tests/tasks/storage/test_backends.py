"""A folder and an object store answer alike about the files that are stored in them."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import pytest

from tasks.storage.folder_store import Backend, FolderStore
from tasks.storage.object_store import Store

FILES = {
    "manifest.json": b"{}",
    "runs/finished/b.parquet": b"bb",
    "runs/finished/a.parquet": b"a",
    "cells/key1-run/result.parquet": b"ccc",
    "cells/key1-run/part/1.parquet": b"dddd",
    "cells/key2-run/result.parquet": b"eeeee",
}


@pytest.fixture(params=["folder", "objects"])
def backend(request, tmp_path) -> Backend:
    made = FolderStore(tmp_path) if request.param == "folder" else Store.at(f"memory://{uuid.uuid4().hex}")
    (tmp_path / "tmp").mkdir()
    for name, content in FILES.items():
        made.write(name, content)
    return made


def test_what_is_stored_is_listed(backend) -> None:
    assert backend.names("runs/finished") == ["a.parquet", "b.parquet"]
    assert backend.names("runs") == backend.names("nowhere") == backend.names("manifest.json") == []
    assert sorted(backend.folders("cells")) == ["key1-run", "key2-run"]
    assert backend.folders("nowhere") == []
    assert backend.below("cells", "key1-") == ["key1-run/part/1.parquet", "key1-run/result.parquet"]
    assert backend.below("cells", "key1-run/p") == ["key1-run/part/1.parquet"]
    assert backend.below("cells", "key3") == backend.below("nowhere", "") == []
    assert backend.sizes() == {name: len(content) for name, content in FILES.items()}


def test_what_is_stored_is_read_and_replaced(backend) -> None:
    assert {name: backend.read(name) for name in FILES} == FILES
    assert backend.read("nowhere/x.json") is None
    assert backend.digest("manifest.json") == hashlib.sha256(b"{}").hexdigest()
    with pytest.raises(FileNotFoundError):
        backend.digest("nowhere/x.json")
    backend.write("manifest.json", b"[]")
    assert backend.read("manifest.json") == b"[]"
    assert backend.sizes().keys() == FILES.keys()  # no temporary file is left


def test_the_bytes_of_a_file_with_two_names_count_once(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    (tmp_path / "tmp").mkdir()
    store.write("a/one", b"12345678")
    (tmp_path / "a" / "two").hardlink_to(tmp_path / "a" / "one")
    assert store.sizes() == {"a/one": 4, "a/two": 4}
