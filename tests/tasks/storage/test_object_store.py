"""Stores as DuckDB reads them."""

from __future__ import annotations

import os

import duckdb
import pytest

from tasks.storage.object_store import Mirror, Store, let_read

FILES, ROWS = 40, 20_000


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "memory"])  # of which DuckDB's threads share open files
def test_many_threads_read_what_was_written(kind, tmp_path) -> None:
    store = Store.at({"file": f"file://{tmp_path}/store", "memory": "memory://music"}[kind])
    with duckdb.connect() as connection:
        for number in range(FILES):
            file = tmp_path / f"{number}.parquet"
            connection.execute(
                f"copy (select range as id, hash(range) as hashed from range({ROWS})) to '{file}' (row_group_size 4096)"
            )
    files = [f"{store.url}/{number}.parquet" for number in range(FILES)] * 2
    for _ in range(3):
        with duckdb.connect(config={"threads": 4}) as connection:
            let_read(connection, store.url, tmp_path.joinpath)
            found = connection.execute(
                "select count(*), sum(id), count(*) filter (hashed <> hash(id)) from read_parquet($files)",
                {"files": files},
            ).fetchone()
        assert found == (len(files) * ROWS, len(files) * ROWS * (ROWS - 1) // 2, 0)


def test_files_are_read_from_where_they_are_told_to(tmp_path) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    with Mirror("memory://music", tmp_path.joinpath).open("memory://music/x") as file:
        assert file.seek(-3, os.SEEK_END) == 7
        assert (file.read(2), file.tell(), file.read(), file.read(1)) == (b"78", 9, b"9", b"")
        assert file.seek(4) == 4
        assert file.seek(1, os.SEEK_CUR) == 5
        assert (file.read(3), file.read(-1)) == (b"567", b"89")
        assert file.seek(20) == 20
        assert file.read() == b""
