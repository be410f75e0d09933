from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.errors import UserError
from tasks.storage.checksums import WriteError
from tasks.storage.warehouse import Warehouse

SCHEMA = pa.schema([pa.field("n", pa.int64())])


def test_a_write_that_fails_leaves_nothing(warehouse) -> None:
    final = warehouse.table("raw", "x", "1")
    with pytest.raises(RuntimeError), warehouse.replacing(final) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert not final.exists()
    assert list((warehouse.root / "tmp").iterdir()) == []


def test_temporary_names_are_not_parquet(warehouse) -> None:
    with warehouse.replacing(warehouse.table("raw", "x", "1")) as temporary:
        pq.write_table(SCHEMA.empty_table(), temporary)
        assert list(warehouse.root.rglob("*.parquet")) == []
    assert warehouse.table("raw", "x", "1").exists()


def test_a_table_that_was_cut_off_while_it_was_written_gets_no_name(warehouse) -> None:
    final = warehouse.table("raw", "x", "1")
    for n_bytes in (0, 7, 100):
        with pytest.raises(WriteError, match=r"1\.parquet: is cut off"), warehouse.replacing(final) as temporary:
            pq.write_table(SCHEMA.empty_table(), temporary)
            os.truncate(temporary, n_bytes)
        with pytest.raises(WriteError), warehouse.new_folder(warehouse.cell("k")) as folder:
            pq.write_table(SCHEMA.empty_table(), folder / "result.parquet")
            os.truncate(folder / "result.parquet", n_bytes)
    assert not final.exists()
    assert not warehouse.cell("k").exists()
    assert list((warehouse.root / "tmp").iterdir()) == []


def test_the_checksum_of_what_is_stored_stands_beside_it(warehouse) -> None:
    warehouse.write_rows(warehouse.table("raw", "x", "1"), [{"n": 1}], SCHEMA)
    with warehouse.new_folder(warehouse.cell("k"), {"a": warehouse.table("raw", "x", "1")}) as folder:
        (folder / "b").write_text("b")
    for folder in (warehouse.root / "raw" / "x", warehouse.root / "cells"):
        [beside] = folder.glob("*.sha256")
        subprocess.run(["sha256sum", "--check", "--quiet", beside.name], cwd=folder, check=True)
    assert warehouse.digest_kept(warehouse.cell("k") / "a") == warehouse.digest_kept(warehouse.table("raw", "x", "1"))
    warehouse.discard(warehouse.cell("k"))
    assert list((warehouse.root / "cells").iterdir()) == []


def test_a_folder_is_there_whole_or_not_at_all(warehouse) -> None:
    with pytest.raises(RuntimeError), warehouse.new_folder(warehouse.cell("k")) as folder:
        (folder / "a").write_text("a")
        raise RuntimeError
    assert not warehouse.cell("k").exists()
    with warehouse.new_folder(warehouse.cell("k")) as folder:
        (folder / "a").write_text("a")
        assert not warehouse.cell("k").exists()
    assert (warehouse.cell("k") / "a").read_text() == "a"


def test_the_schema_is_kept(warehouse) -> None:
    with pytest.raises(pa.ArrowInvalid):
        warehouse.write_rows(warehouse.table("raw", "x", "1"), [{"n": "text"}], SCHEMA)
    assert warehouse.files("raw", "x") == []


def test_the_warehouse_is_where_it_is_said_to_be(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MUSIC_WAREHOUSE", raising=False)
    assert Warehouse.at().root == tmp_path / "warehouse"
    monkeypatch.setenv("MUSIC_WAREHOUSE", str(tmp_path / "b"))
    assert Warehouse.at().root == tmp_path / "b"
    assert Warehouse.at(tmp_path / "c").root == tmp_path / "c"


def test_a_place_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be used as the warehouse"):
        Warehouse.at(tmp_path / "file")
