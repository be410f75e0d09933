"""The published database is read wherever the warehouse stands, whoever has it open, and if nothing may be written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from tasks.errors import UserError
from tasks.feedback.nearest import known_tracks
from tasks.ingest.snapshots import find_snapshot
from tasks.prediction.batch import predict_file
from tasks.reporting import report
from tasks.results import database, query
from tasks.storage.warehouse import Warehouse
from tasks.upkeep.inventory import published_paths
from tests.helpers.commands import until
from tests.helpers.tracks import many

EVERY = ("raw.tracks", "staging.stg_tracks", "features.tracks_std", "features.statistics", "results.predictions")


def counts(home: Warehouse, names: tuple[str, ...] = EVERY) -> list[int]:
    """The rows of views over files, asked by a question that may read the warehouse alone."""
    with query.locked(home) as connection:
        return [connection.execute(f"select count(*) from {name}").fetchall()[0][0] for name in names]


@pytest.fixture
def moved(trained: Warehouse, tmp_path: Path) -> Warehouse:
    folder = tmp_path / "d'or" / "wär"
    shutil.copytree(trained.root, folder)
    return Warehouse.at(folder)


def test_a_moved_warehouse_is_read_where_it_stands(trained: Warehouse, moved: Warehouse):
    expected = counts(trained)
    content = moved.database.read_bytes()
    shutil.rmtree(moved.root / "cells" / max(path.name for path in (moved.root / "cells").glob("*/")), True)
    assert counts(Warehouse.at(trained.root)) == expected

    with database.published(moved) as connection:
        run = database.find_run(connection, None)
    with database.as_of(run, moved) as connection:
        connection.execute("set allowed_directories = []")
        [(tracks,)] = connection.execute("select count(*) from staging.stg_tracks").fetchall()
    assert tracks == expected[1]
    assert counts(moved, EVERY[:4]) == expected[:4]
    with pytest.raises(duckdb.IOException, match="No files found"):  # it is its own files that are read
        counts(moved)
    assert published_paths(moved) == published_paths(trained)
    assert find_snapshot("latest", moved) == find_snapshot("latest", trained)
    assert moved.database.read_bytes() == content  # what is published is not touched
    assert list((moved.root / "tmp").glob("music*")) == []


@pytest.fixture
def read_only(trained: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Warehouse]:
    """The warehouse mounted read-only at another place; skips where that cannot be done."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / "mounted"
    folder.mkdir()
    if subprocess.run(["mount", "--bind", trained.root, folder], check=False).returncode:
        pytest.skip("needs the right to mount")
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
    yield Warehouse.to_read(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_what_only_reads_needs_no_writable_warehouse(trained: Warehouse, read_only: Warehouse, tmp_path: Path):
    assert counts(read_only) == counts(trained)
    many(50).write_csv(tmp_path / "tracks.csv")
    done = predict_file(str(tmp_path / "tracks.csv"), str(tmp_path / "out.csv"), read_only)
    assert done.rows_predicted == 50
    assert known_tracks(read_only).n_rows == known_tracks(trained).n_rows
    assert report.write_report(None, read_only, tmp_path / "report.html").exists()
    with pytest.raises(UserError, match=r"cannot be used as the warehouse|is not writable"):
        Warehouse.at(read_only.root)


HOLDER = """
import duckdb, sys
with duckdb.connect(sys.argv[1]) as connection:
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_database_that_is_open_for_writing_elsewhere_is_read_all_the_same(moved: Warehouse, trained: Warehouse):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(moved.database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(duckdb.IOException, match="lock"):
            duckdb.connect(str(moved.database), read_only=True)
        assert counts(moved) == counts(trained)
        holder.communicate()
    until(lambda: holder.poll() == 0)


def test_a_damaged_database_is_said_in_one_line(moved: Warehouse):
    moved.database.write_bytes(b"no database" * 1000)
    with pytest.raises(UserError, match=r"music.duckdb: cannot be read .*Publish again"):
        counts(moved)


def test_a_question_has_a_memory_and_a_spill_limit(trained: Warehouse, monkeypatch: pytest.MonkeyPatch):
    large = "select max(len(whole)) from (select list(range) as whole from range(60000000))"
    monkeypatch.setenv("MUSIC_MEMORY_LIMIT", "300MB")
    monkeypatch.setenv("MUSIC_SPILL_LIMIT", "1MB")
    settings = "select name, value from duckdb_settings() where name like '%temp_directory%'"
    with query.locked(trained) as connection:
        limits = dict(query.ask(connection, settings)[1])
        with pytest.raises(duckdb.OutOfMemoryException):
            list(query.ask(connection, large)[1])
    assert limits["max_temp_directory_size"] == "976.5 KiB"
    assert Path(limits["temp_directory"]).parent == trained.root / "tmp"
    assert list((trained.root / "tmp").glob("spill*")) == []
