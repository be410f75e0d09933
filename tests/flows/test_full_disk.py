"""Publication and upkeep on a disk that fills: whole, or the publication before stays."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from tasks.errors import UserError
from tasks.features.build import build_features
from tasks.ingest.read import ingest
from tasks.prediction import champions
from tasks.results.publish import publish
from tasks.storage.warehouse import Warehouse
from tasks.upkeep import cleanup
from tasks.upkeep.integrity import check
from tasks.upkeep.policy import Policy
from tests.helpers.amounts import amount, mostly_long
from tests.helpers.commands import run
from tests.helpers.runs import make_run
from tests.helpers.tracks import many

pytestmark = pytest.mark.slow

KIB = 1024
Disk = Callable[[int], Warehouse]
MODELS = ["linear", "logistic_regression"]


def mount(folder: Path, size: int) -> None:
    """An empty file system of so many KiB; skips where none can be mounted."""
    subprocess.run(["umount", "--lazy", folder], check=False, capture_output=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", folder], check=False).returncode:
        pytest.skip("needs the right to mount a small file system")


def leave(folder: Path, free: int) -> None:
    """Have so many KiB left on the file system."""
    status = os.statvfs(folder)
    used = (status.f_blocks - status.f_bfree) * status.f_bsize // KIB
    subprocess.run(["mount", "-o", f"remount,size={used + free}k", folder], check=True)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    """From KiB to a warehouse with three runs and champions, on a file system that has so much room left."""
    folder, kept = tmp_path_factory.mktemp("disk"), tmp_path_factory.mktemp("kept")
    mount(folder, 256 * KIB)
    home = Warehouse.at(folder / "w")
    make_run(home, "sample:600", MODELS, protocols=["label_free"])
    run_id = make_run(home, "sample:600", MODELS, protocols=["label_free"], refresh=True)
    champions.choose(run_id, home, 1)
    make_run(home, "sample:600", MODELS, protocols=["label_free"])
    shutil.copytree(home.root, kept / "w")

    def with_room(free: int) -> Warehouse:
        mount(folder, 256 * KIB)
        shutil.copytree(kept / "w", home.root)
        leave(folder, free)
        return home

    yield with_room
    subprocess.run(["umount", "--lazy", folder], check=False, capture_output=True)


def rows(home: Warehouse) -> dict[str, int]:
    """Of every published table and view how many rows can be read."""
    with duckdb.connect(str(home.database), read_only=True) as connection:
        names = connection.execute(
            "select table_schema || '.' || table_name from information_schema.tables order by all"
        ).fetchall()
        return {name: connection.execute(f"select count(*) from {name}").fetchall()[0][0] for (name,) in names}


def left_over(home: Warehouse) -> list[str]:
    return [path.name for path in (home.root / "tmp").iterdir() if path.suffix not in {".lock", ".note"}]


@pytest.mark.long
def test_publication_is_whole_or_the_one_before_stays(disk: Disk) -> None:
    ends = []
    for free in amount((0, 512, 3000, 12_000), EVERY_FREE):
        home = disk(free)
        before = rows(home)
        tables = [
            row for row in build_features(ingest("sample:600", {}, 0.05, home), "label_free", 20, home) if row.reused
        ]
        try:
            publish(ingest("sample:600", {}, 0.05, home), tables, home)
            ends.append(True)
        except (UserError, OSError, duckdb.Error):
            ends.append(False)
        assert rows(home) == before
        assert left_over(home) == []
        assert check(home, dry_run=True).faults == []
    assert ends == sorted(ends)  # once there is enough, there is
    assert ends[0] is False
    assert ends[-1] is True


def test_upkeep_frees_room_where_there_is_none(disk: Disk) -> None:
    home = disk(0)
    before = rows(home)
    dead = home.root / "tmp" / f"music-0.{os.uname().nodename}.999999999.tmp.wal"
    unneeded = home.root / "features" / "tracks_std" / f"{'0' * 16}.parquet"
    last = max((home.root / "cells").glob("*/predictions.parquet"))
    for file in (dead, unneeded):
        leave(home.root.parent, 20 * KIB)
        shutil.copy(last, file)
        with file.open("ab") as handle:
            handle.write(b"\0" * 8_000_000)
    leave(home.root.parent, 0)

    done = cleanup.tidy(Policy(keep_runs=1, grace_hours=0.0), 0.0, lambda: None, home)

    assert {item.kind for item in done.going.values()} >= {"temporary", "orphan", "run"}
    assert not dead.exists()
    assert not unneeded.exists()
    after = rows(home)
    assert after["results.runs"] < before["results.runs"]
    assert set(after) == set(before)
    assert after["features.tracks_std"] == before["features.tracks_std"]


def test_upkeep_that_cannot_publish_says_so_and_keeps_the_publication(disk: Disk) -> None:
    home = disk(16)
    before = rows(home)
    with pytest.raises(UserError, match="needs room for a new publication"):
        cleanup.tidy(Policy(keep_runs=1, grace_hours=0.0), 0.0, lambda: None, home)
    assert rows(home) == before


# Each writes something of its own: new tables, cells, trials, a report, predictions.
RIDGE = ["--source", "sample:600", "--protocol", "label_free", "--models", "ridge"]
COMMANDS = {
    "features": ["--source", "sample:700", "--protocol", "published"],
    "benchmark": RIDGE,
    "learning_curve": [*RIDGE, "--smallest", "200"],
    "tune": [*RIDGE[:4], "--task", "popularity", "--model", "extra_trees", "--trials", "1"],
    "report": [],
    "predict": ["tracks.csv", "--out", "predicted.parquet"],
    "upkeep": ["--keep-runs", "1", "--grace-hours", "0"],
}
EVERY_FREE = (0, 8, 64, 256, 512, 1000, 1500, 2000, 2500, 3000, 3500, 4000, 5000, 6000, 8000, 12_000)
FREE = [int(free) for free in os.environ.get("FULL_DISK_KIB", "300").split(",")]


@pytest.mark.slow
@pytest.mark.parametrize("free", FREE)
@pytest.mark.parametrize("flow", mostly_long(COMMANDS, "features"))
def test_a_command_on_a_full_disk_ends_well_or_with_one_line(flow, free, disk: Disk, environment) -> None:
    home = disk(free + 200)
    many(300).write_csv(home.root.parent / "tracks.csv")
    leave(home.root.parent, free)
    before = rows(home)
    options = [
        str(home.root.parent / part) if part.startswith(("tracks", "predicted")) else part for part in COMMANDS[flow]
    ]
    done = run(environment | {"MUSIC_WAREHOUSE": str(home.root)}, *options, flow=flow)
    assert done.returncode in {0, 1}, done.stderr
    assert "Traceback" not in done.stderr
    assert "nanobind" not in done.stderr
    if done.returncode:
        assert "room" in done.stderr.splitlines()[-1]
        if flow != "upkeep":
            assert rows(home) == before
    elif flow not in {"upkeep", "features"}:
        assert all(rows(home)[name] >= count for name, count in before.items())
    assert left_over(home) == []
    assert check(home, dry_run=True).faults == []
