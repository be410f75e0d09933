"""Each kind of stored file in turn is missing, cut off or altered: it is named, and everything else goes on."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tasks.prediction import champions
from tasks.reporting import report
from tasks.results import query
from tasks.storage.damage import FOLDER
from tasks.storage.warehouse import Warehouse
from tasks.upkeep import integrity
from tasks.upkeep.cleanup import tidy
from tasks.upkeep.integrity import check
from tasks.upkeep.policy import Policy
from tests.helpers.amounts import mostly_long
from tests.helpers.runs import make_run

pytestmark = pytest.mark.slow

SOURCE = "sample:600"
MODELS = ("linear", "logistic_regression")
ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{16}|\d{8}T\d{6,12}-[0-9a-f]{6}")
REMADE = ("raw/", "staging/", "features/", "cells/", "sample/", "published/")  # by the same run again


def run(home: Warehouse) -> str:
    """What a night does: a run, its champions, upkeep, a report and a question."""
    run_id = make_run(home, SOURCE, MODELS, protocols=["label_free"])
    champions.choose(run_id, home, 1)
    champions.current(home)
    tidy(Policy(keep_runs=5), 0.0, lambda: None, home)
    report.write_report(run_id, home)
    return run_id


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """A warehouse after two runs, the second of which reused the cells of the first."""
    home = Warehouse.at(tmp_path_factory.mktemp("stored"))
    make_run(home, SOURCE, MODELS, protocols=["label_free"])
    run(home)
    return home


@pytest.fixture
def home(stored: Warehouse, tmp_path: Path) -> Warehouse:
    shutil.copytree(stored.root, tmp_path / "w", symlinks=True)
    return Warehouse.at(tmp_path / "w")


def kinds(home: Warehouse) -> dict[str, Path]:
    """The oldest file of each kind, by its path without ids; of the newest publication."""
    found: dict[str, Path] = {}
    for name in sorted(home.sizes()):
        if not name.startswith(("tmp/", "reports/")) and not name.endswith(".sha256"):
            kind = ID.sub("ID", name)
            if name.startswith("published/") or kind not in found:
                found[kind] = home.root / name
    return found


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def alter(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))


KINDS = ("raw", "staging", "features", "cells", "runs", "champions", "published", "upkeep")
HARMS = {"missing": Path.unlink, "cut": cut, "altered": alter}


def rows(home: Warehouse, sql: str) -> list[tuple]:
    with query.locked(home) as connection:
        return list(query.ask(connection, sql)[1])


def test_a_sound_warehouse_has_no_faults(stored: Warehouse):
    found = check(stored)
    assert found.faults == []
    assert found.without_checksum == 0
    assert found.files > 50
    assert not (stored.root / FOLDER).exists()


def test_what_a_flow_stores_during_a_check_is_neither_missing_nor_set_aside(home: Warehouse, monkeypatch):
    moved = [home.root / path for path in ("cells", "features/tracks_std")]
    beside = {file: file.read_bytes() for folder in moved for file in folder.glob("*.sha256")}
    for folder in moved:
        folder.rename(home.root / f"later-{folder.name}")
    for file, content in beside.items():  # a writer stores the checksum before the file
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    look = integrity._fault_of

    def look_while_a_flow_stores(*arguments) -> str | None:
        for folder in moved:
            if (later := home.root / f"later-{folder.name}").exists():
                shutil.rmtree(folder)
                later.rename(folder)
        return look(*arguments)

    monkeypatch.setattr(integrity, "_fault_of", look_while_a_flow_stores)
    assert check(home).faults == []
    assert not (home.root / FOLDER).exists()
    assert check(home).without_checksum == 0


@pytest.mark.parametrize("harm", mostly_long(HARMS, "cut"))
def test_what_is_damaged_is_named_set_aside_and_made_again(harm: str, home: Warehouse, stored: Warehouse):
    files = {kind: file for kind, file in kinds(home).items() if kind not in {"manifest.json", "music.duckdb"}}
    assert len(files) > 30
    for file in files.values():
        HARMS[harm](file)
    names = {file.relative_to(home.root).as_posix() for file in files.values()}

    assert names <= {fault.path for fault in check(home, dry_run=True).faults}
    assert not (home.root / FOLDER).exists()
    check(home)
    run(home)

    left = {fault.path for fault in check(home).faults}
    assert [path for path in left if path.startswith(REMADE)] == []
    figures = "select model, round(coalesce(accuracy, rmse), 9) from results.leaderboard order by all"
    assert rows(home, figures) == rows(stored, figures)


@pytest.mark.parametrize("harm", ["missing", "cut"])
@pytest.mark.parametrize("start", ["raw", "staging", "features", "cells"])
def test_a_report_is_written_without_the_tables_that_are_damaged(harm: str, start: str, home: Warehouse):
    for kind, file in kinds(home).items():
        if kind.startswith(start):
            HARMS[harm](file)
    assert "logistic_regression" in report.write_report(None, home).read_text()


@pytest.mark.parametrize("harm", mostly_long(["missing", "cut"], "cut"))
@pytest.mark.parametrize("start", mostly_long(KINDS, "features", "cells", "runs"))
def test_no_command_ends_because_of_a_file_that_is_gone_or_cut_off(harm: str, start: str, home: Warehouse):
    for kind, file in kinds(home).items():
        if kind.startswith(start):
            HARMS[harm](file)
    run_id = run(home)
    assert rows(home, f"select count(*) from results.metrics where run_id = '{run_id}'")[0][0] > 0
    assert rows(home, f"select count(*) from results.predictions where run_id = '{run_id}'")[0][0] > 0


@pytest.mark.parametrize("harm", mostly_long(HARMS, "altered"))
def test_a_damaged_manifest_or_database_is_named_and_published_again(harm: str, home: Warehouse):
    for name in ("manifest.json", "music.duckdb"):
        HARMS[harm](home.root / name)
        found = check(home)
        assert name in {fault.path for fault in found.faults}
        assert found.files > 50
        make_run(home, SOURCE, MODELS, protocols=["label_free"])
        assert check(home).faults == []
