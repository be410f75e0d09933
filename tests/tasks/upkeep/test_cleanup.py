"""What goes and what stays: on stored files of many nights, on processes killed half way, and on any plan at all."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.compute.processes import Outcome
from tasks.errors import UserError
from tasks.features.build import build_features
from tasks.features.registry import BuiltTable, compact_registry, read_registry
from tasks.ingest.read import ingest
from tasks.reporting import report
from tasks.storage.warehouse import Warehouse, link
from tasks.training.grid import plan_cells
from tasks.training.jobs import make_jobs
from tasks.training.runs import STARTED, start_run
from tasks.training.tuning import open_search
from tasks.upkeep import cleanup
from tasks.upkeep.cleanup import make_plan, needed_paths, tidy
from tasks.upkeep.inventory import (
    Inventory,
    Item,
    StoredRun,
    freed_by,
    links_of,
    published_paths,
    size_of,
    snapshot_paths,
    take_inventory,
)
from tasks.upkeep.policy import MOST, Policy
from tests.helpers.amounts import amount
from tests.helpers.runs import everything, files, night

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
NOW = datetime(2026, 11, 30, tzinfo=UTC)
AT_ONCE = 0.0  # hours of grace


def keep(home: Warehouse, runs: int, grace_hours: float = AT_ONCE, *, dry_run: bool = False):
    return tidy(Policy(keep_runs=runs, grace_hours=grace_hours), 0.0, lambda: None, home, dry_run=dry_run)


def recorded(home: Warehouse) -> set[str]:
    return {file.stem for file in home.files("runs", "started")}


@pytest.mark.long
def test_a_warehouse_stays_bounded_night_after_night_and_whole_after_each(warehouse) -> None:
    totals = []
    for number in range(9):
        # Another file every night, or the same again: reused, trained anew, or with other tables of the same file.
        night(warehouse, f"sample:{200 + 10 * (number // 3)}", refresh=number % 3 == 1, genre_rows=2 + number % 3 // 2)
        keep(warehouse, runs=2)
        everything(warehouse)
        held = files(warehouse)
        totals.append((sum(held.values()), len(held)))
        assert recorded(warehouse) == {file.stem for file in warehouse.files("runs", "finished")}
        assert len(recorded(warehouse)) == min(2, number + 1)
    # The same point of the cycle, three nights on.
    for (before, n_before), (after, n_after) in zip(totals[3:6], totals[6:9], strict=True):
        assert after < 1.1 * before
        assert n_after == n_before


@pytest.mark.long
def test_without_upkeep_the_same_nights_pile_up(warehouse) -> None:
    counts = []
    for number in range(3):
        night(warehouse, f"sample:{200 + 10 * number}")
        counts.append(len(files(warehouse)))
    assert counts[0] + 20 < counts[1] < counts[2] - 20


def test_kept_runs_read_the_same_before_and_after(warehouse) -> None:
    oldest = night(warehouse, "sample:200", ("linear", "knn"), published=False)
    reusing = night(warehouse, "sample:200", ("linear", "knn"), published=False)
    night(warehouse, "sample:210", published=False)
    newest = night(warehouse, "sample:220", ("linear",), published=False)
    night(warehouse, "sample:220", ("linear",), refresh=True)
    kept = {reusing, newest}
    # The two runs of sample:220 and the one of sample:210 are newer; the last of sample:200 is the fourth.
    before = everything(warehouse, run_ids=kept)
    report = keep(warehouse, runs=4)
    assert [name for name, item in report.going.items() if item.kind == "run"] == [oldest]
    after = everything(warehouse, run_ids=kept)
    assert {name for name in before if before[name] != after[name]} <= {
        "results.figures",
        "results.comparisons",
        "results.registry",  # the names of the publication's own files
    }
    assert before["results.predictions"] == after["results.predictions"] != []
    assert everything(warehouse, run_ids={oldest})["results.cells"] == []


@pytest.mark.long
def test_what_a_dry_run_says_is_what_goes(warehouse) -> None:
    for rows in (200, 210, 220):
        report = warehouse.report(night(warehouse, f"sample:{rows}"))
        report.parent.mkdir(exist_ok=True)
        report.write_text("a report")
    before = files(warehouse)
    inodes = {name: (warehouse.root / name).stat().st_ino for name in before}
    sizes = warehouse.sizes()
    assert sum(sizes[name] for name in before if not name.startswith("tmp/")) < sum(before.values())  # linked: once
    said = keep(warehouse, runs=1, dry_run=True)
    assert files(warehouse) == before
    newest = f"published/{warehouse.manifest()['publication']}/"  # which upkeep's own takes the place of
    done = keep(warehouse, runs=1)
    assert said.going == done.going
    kinds = {"run", "snapshot", "feature version", "cell", "sample", "publication"}
    assert {item.kind for item in done.going.values()} == kinds
    after = files(warehouse)
    published = {"music.duckdb", "manifest.json"}
    gone = {name for name in before.keys() - after.keys() if not name.startswith(("features/registry/", newest[:-1]))}
    listed = {
        name for path, item in done.going.items() if item.kind != "run" for name in before if name.startswith(path)
    }
    runs = {
        f"runs/{part}/{name}.parquet{end}"
        for name in said.going
        if "/" not in name
        for part in ("started", "finished")
        for end in ("", ".sha256")
    }
    reports = {f"reports/{name}.html" for name in said.going if "/" not in name}
    assert gone == listed | runs | reports
    assert sum(item.size for item in done.going.values()) == sum(sizes[name] for name in gone)
    left = {inodes[name] for name in before.keys() - gone}
    freed = {inodes[name]: before[name] for name in gone if inodes[name] not in left}
    assert len(freed) < len(gone)
    assert said.freed == done.freed == sum(freed.values())
    assert {name for name in before.keys() & after.keys() if before[name] != after[name]} <= published
    assert keep(warehouse, runs=1).going == {}
    assert files(warehouse) == after


def test_of_a_file_with_several_names_space_is_freed_with_the_last(tmp_path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "0.parquet").write_bytes(bytes(100))
    (tmp_path / "one" / "1.parquet").write_bytes(bytes(10))
    link(tmp_path / "one" / "0.parquet", tmp_path / "other" / "0.parquet")
    assert freed_by(links_of(tmp_path / "one")) == 10
    assert freed_by(links_of(tmp_path / "one") | links_of(tmp_path / "other")) == 110
    assert freed_by(links_of(tmp_path / "gone")) == 0


@pytest.mark.long
def test_readers_of_an_older_publication_have_their_time(warehouse, monkeypatch) -> None:
    night(warehouse, "sample:200")
    night(warehouse, "sample:210")
    everywhere = "select (select count(*) from results.predictions), (select count(*) from features.tracks_std)"
    with duckdb.connect(str(warehouse.database), read_only=True) as reader:
        before = reader.execute(everywhere).fetchall()
        report = keep(warehouse, runs=1, grace_hours=12)
        assert {item.kind for item in report.going.values()} == {"run"}
        assert {item.kind for item in report.later.values()} == {"snapshot", "feature version", "cell", "sample"}
        assert reader.execute(everywhere).fetchall() == before
    assert keep(warehouse, runs=1, grace_hours=12).going == {}  # nothing new, and not yet time
    first = take_inventory(warehouse)
    later = replace(first, now=first.now + timedelta(hours=12))
    publications = {f"published/{name}" for name in first.publications.keys() - {first.newest}}
    assert make_plan(later, Policy(keep_runs=1)).files.keys() == report.later.keys() | publications
    # Used again, they are needed again; unneeded once more, their time begins anew.
    night(warehouse, "sample:200")
    assert keep(warehouse, runs=2, grace_hours=12).later == {}
    assert warehouse.files("upkeep", "retired") == []


@pytest.mark.long
def test_a_later_run_reuses_what_was_kept_and_makes_what_was_not(warehouse) -> None:
    night(warehouse, "sample:200")
    first = night(warehouse, "sample:210")
    keep(warehouse, runs=1)
    trained = {folder.name for folder in (warehouse.root / "cells").glob("*/")}
    assert {name.split("-", 1)[1] for name in trained} == {first}
    night(warehouse, "sample:210")
    assert {folder.name for folder in (warehouse.root / "cells").glob("*/")} == trained
    again = night(warehouse, "sample:200")
    assert {folder.name.split("-", 1)[1] for folder in (warehouse.root / "cells").glob("*/")} == {first, again}
    everything(warehouse)


def test_cells_of_a_killed_run_stay_for_its_resumption(warehouse) -> None:
    run_id = night(warehouse, "sample:200")
    warehouse.table("runs", "finished", run_id).unlink()
    started = warehouse.table("runs", "started", run_id)
    [row] = pq.read_table(started).to_pylist()
    started.unlink()
    warehouse.write_rows(started, [row | {"pid_started": 1.0}], STARTED)
    keep(warehouse, runs=1)
    assert len(list((warehouse.root / "cells").glob("*/"))) == 1
    night(warehouse, "sample:210")
    keep(warehouse, runs=1)  # one that completed, and one that did not
    assert len(list((warehouse.root / "cells").glob("*/"))) == 2


def test_orphans_go_and_strangers_stay(warehouse) -> None:
    night(warehouse, "sample:200")
    key = "0123456789abcdef"
    orphans = [
        *(f"{table}/{key}.parquet" for table in ("raw/tracks", "staging/stg_tracks", "features/tracks_std")),
        f"cells/{key}-20260101T000000-abcdef",
        f"sample/sample-77-42-{key}.csv",
        "tmp/half-12345678.elsewhere.1.tmp",
    ]
    strangers = ["notes.txt", "cells/notes", "features/tracks_std/mine.parquet", "tmp/ingest.lock", "sample/my.csv"]
    gone_process = subprocess.Popen(["true"])
    gone_process.wait()
    left = warehouse.temporary("left").name.replace(f".{os.getpid()}.", f".{gone_process.pid}.")
    own = warehouse.temporary("own").name
    for name in (*orphans, *strangers, f"tmp/{left}", f"tmp/{own}"):
        path = warehouse.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    os.utime(warehouse.root / orphans[-1], (0, 0))
    assert set(keep(warehouse, runs=1).going) == {*orphans, f"tmp/{left}"}
    assert not any((warehouse.root / name).exists() for name in orphans)
    assert all((warehouse.root / name).exists() for name in (*strangers, f"tmp/{own}"))


@pytest.mark.long
def test_a_page_of_two_runs_goes_with_either_of_them(warehouse) -> None:
    first, second, third = (night(warehouse, "sample:200", published=is_last) for is_last in (False, False, True))
    pages = [report.write_comparison(one, other, warehouse) for one, other in [(second, first), (third, second)]]
    assert keep(warehouse, runs=2).going.keys() & {f"reports/{page.name}" for page in pages} == {
        f"reports/{second}-against-{first}.html"
    }
    assert [page.exists() for page in pages] == [False, True]


@pytest.mark.long
def test_a_search_keeps_the_data_it_goes_on_with(warehouse) -> None:
    with warehouse.in_use():
        snapshot = ingest("sample:200", {}, 0.05, warehouse)
        tables = build_features(snapshot, "published", 2, warehouse)
    cell = plan_cells(["published"], "smoke", ["extra_trees"], ["all"], [42])[0]
    with open_search(make_jobs([cell], tables, "tuning", warehouse, 1)[0], warehouse) as search:
        trial = search.ask()
        search.tell(trial, Outcome("ok", 1.0), 0.1)
    night(warehouse, "sample:210")
    keep(warehouse, runs=1)
    assert {row.path for row in tables} <= set(files(warehouse))
    assert set(snapshot_paths(snapshot.snapshot)) <= set(files(warehouse))
    assert len(warehouse.files("tuning", "trials")) == 1
    assert {row.reused for row in build_features(snapshot, "published", 2, warehouse)} == {True}


def test_superseded_versions_of_a_file_go_and_the_current_stay(warehouse) -> None:
    night(warehouse, "sample:200", genre_rows=2, published=False)
    first = {row.version for row in read_registry(warehouse)}
    night(warehouse, "sample:200", genre_rows=3)
    current = {row.version for row in read_registry(warehouse)} - first
    assert len(current) > 10
    keep(warehouse, runs=2)
    made = {row.table_name for row in read_registry(warehouse) if row.version in first - current}
    assert {
        "features.tracks_std",
        "features.scaling",
        "staging.stg_tracks",
    } <= made  # a cell of the kept run's was made from
    assert "features.tracks_pca" not in made
    keep(warehouse, runs=1)
    assert {row.version for row in read_registry(warehouse)} == current


@pytest.mark.long
def test_runs_of_a_few_models_push_out_no_other_models_result(warehouse) -> None:
    wide = night(warehouse, "sample:200", ("linear", "knn"))
    for _ in range(3):
        narrow = night(warehouse, "sample:200", ("linear",))
    keep(warehouse, runs=1)
    assert recorded(warehouse) == {wide, narrow}
    assert len(everything(warehouse)["results.leaderboard"]) == 2
    last = night(warehouse, "sample:200", ("linear", "knn"))
    keep(warehouse, runs=1)
    assert recorded(warehouse) == {last}


def test_nothing_goes_while_a_flow_holds_the_warehouse(warehouse) -> None:
    night(warehouse, "sample:200", published=False)
    night(warehouse, "sample:210")
    before = files(warehouse)
    waited = []
    with warehouse.in_use(), warehouse.in_use(), pytest.raises(UserError, match="still in use"):
        tidy(Policy(keep_runs=1), 0.3, lambda: waited.append(1), warehouse)
    assert (waited, files(warehouse)) == ([1], {**before, "tmp/use.lock": 0})
    start_run(ingest("sample:200", {}, 0.05, warehouse), "smoke", warehouse)  # of this process, which is alive
    with pytest.raises(UserError, match=r"still in use \(run 2"):
        keep(warehouse, runs=1)


CRASHING = """
import os, signal, sys
from tasks.storage import warehouse
from tasks.storage.warehouse import Warehouse
from tasks.upkeep import cleanup

left = int(sys.argv[2])
def dying(function):
    def called(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return called

cleanup.Warehouse.discard = dying(Warehouse.discard)
cleanup.publish = dying(cleanup.publish)
cleanup.compact_registry = dying(cleanup.compact_registry)
warehouse.remove = dying(warehouse.remove)
unlink = warehouse.Path.unlink
warehouse.Path.unlink = dying(unlink)
cleanup.tidy(cleanup.Policy(keep_runs=1, grace_hours=0), 60.0, lambda: None, Warehouse.existing(sys.argv[1]))
"""


@pytest.mark.long
def test_killed_anywhere_it_leaves_a_whole_warehouse_and_goes_on(warehouse, tmp_path) -> None:
    night(warehouse, "sample:200")
    kept = night(warehouse, "sample:210")
    kills = 0
    for steps in (0, 1, 2, 4, 5, 9, 30):
        done = subprocess.run(
            [sys.executable, "-c", CRASHING, str(warehouse.root), str(steps)], cwd=ROOT, timeout=120, check=False
        )
        kills += done.returncode == -signal.SIGKILL
        everything(warehouse)
        assert all((warehouse.root / row.path).exists() for row in read_registry(warehouse))
        assert kept in recorded(warehouse)
        night(warehouse, "sample:210")  # a run in between publishes what is recorded
        rows = everything(warehouse)
        assert len(rows["results.runs"]) == len(recorded(warehouse))
        assert len(set(rows["features.registry"])) == len(rows["features.registry"])
        night(warehouse, "sample:200")
        kept = night(warehouse, "sample:210")
    assert kills >= 5
    keep(warehouse, runs=1)
    assert recorded(warehouse) == {file.stem for file in warehouse.files("runs", "finished")} == {kept}
    assert {item.kind for item in take_inventory(warehouse).items.values()} == {
        "snapshot", "feature version", "cell", "sample",
    }  # fmt: skip
    assert make_plan(take_inventory(warehouse), Policy(keep_runs=1)).later == {}


def test_a_compaction_killed_half_way_doubles_no_row_of_the_registry(warehouse) -> None:
    night(warehouse, "sample:200")
    before = read_registry(warehouse)
    [file] = warehouse.files("features", "registry")
    shutil.copy(file, file.with_name("written-before-the-other-was-removed.parquet"))
    assert len(warehouse.files("features", "registry")) == 2
    assert read_registry(warehouse) == before
    compact_registry(before, warehouse)
    assert len(warehouse.files("features", "registry")) == 1
    assert read_registry(warehouse) == before


@pytest.mark.long
def test_what_the_publication_names_stays_whatever_the_records_say(warehouse, monkeypatch) -> None:
    night(warehouse, "sample:200", published=False)
    night(warehouse, "sample:210")
    monkeypatch.setattr(cleanup, "publish", lambda *_: None)
    keep(warehouse, runs=1)
    assert len(everything(warehouse)["results.runs"]) == 2
    monkeypatch.undo()
    keep(warehouse, runs=1)
    assert len(everything(warehouse)["results.runs"]) == len(list((warehouse.root / "cells").glob("*/"))) == 1


@pytest.mark.long
def test_a_moved_warehouse_is_published_where_it_is(warehouse, tmp_path) -> None:
    night(warehouse, "sample:200", published=False)
    night(warehouse, "sample:210")
    os.rename(warehouse.root, tmp_path / "it's moved")
    moved = Warehouse.at(tmp_path / "it's moved")
    keep(moved, runs=1)
    everything(moved)
    assert published_paths(moved) <= take_inventory(moved).items.keys()


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({"keep_runs": 0}, "--keep-runs must be from 1 to 36500, not 0"),
        ({"keep_days": -1}, "--keep-days must be from 1"),
        ({"keep_days": MOST + 1}, "--keep-days must be from 1"),
        ({"grace_hours": float("nan")}, "--grace-hours must be from 0"),
        ({"grace_hours": -0.5}, "--grace-hours must be from 0"),
    ],
)
def test_numbers_out_of_range_are_refused(numbers, reason) -> None:
    with pytest.raises(UserError, match=reason):
        Policy(**numbers)


def run_of(number: int, status: str = "completed", days: float = 0.0, **parts) -> StoredRun:
    at = NOW - timedelta(days=days or number)
    return StoredRun(run_id=f"r{number}", started_at=at, status=status, snapshot="s", **parts)


def test_runs_are_kept_by_count_or_by_age() -> None:
    runs = [run_of(number) for number in range(1, 41)]
    names = [run.run_id for run in runs]
    assert [run.run_id for run in Policy().kept(runs, NOW)] == names[:14]
    assert [run.run_id for run in Policy(keep_runs=3).kept(runs, NOW)] == names[:3]
    assert [run.run_id for run in Policy(keep_days=20).kept(runs, NOW)] == names[:20]
    assert [run.run_id for run in Policy(keep_days=2, keep_runs=5).kept(runs, NOW)] == names[:5]
    assert [run.run_id for run in Policy(keep_days=7, keep_runs=5).kept(runs, NOW)] == names[:7]
    assert [run.run_id for run in Policy(keep_days=7).kept(runs[30:], NOW)] == names[30:31]


def test_failures_push_no_result_out() -> None:
    runs = [run_of(number, "killed" if number < 20 else "completed") for number in range(1, 41)]
    kept = Policy(keep_runs=2).kept([*runs, run_of(50, "running")], NOW)
    assert [run.run_id for run in kept] == ["r1", "r2", "r20", "r21", "r50"]


NAMES = st.sampled_from(["a", "b", "c", "d", "e", "f"])


@st.composite
def inventories(draw) -> Inventory:
    """Any runs over any versions of any snapshots, some files of which may be gone or belong to nothing."""
    versions = ["a", "b", "c", "d", "e", "f"]
    registry = []
    for number, version in enumerate(versions):
        upstream = draw(st.none() | st.sets(st.sampled_from(versions[:number]) if number else st.nothing()))
        registry.append(
            BuiltTable(
                table_name=f"features.t{draw(st.integers(0, 2))}",
                protocol=draw(st.sampled_from([None, "published"])),
                version=version,
                snapshot=draw(NAMES),
                path=f"features/t/{version}.parquet",
                rows=1,
                built_at=NOW - timedelta(days=draw(st.integers(0, 9))),
                build_seconds=0.0,
                reused=True,
                upstream=None if upstream is None else tuple(upstream),
            )
        )
    results = [f"{key}-r{run}" for key in "xyz" for run in range(5)]
    runs = tuple(
        StoredRun(
            run_id=f"r{number}",
            started_at=NOW - timedelta(days=draw(st.integers(0, 9))),
            status=draw(st.sampled_from(["completed", "failed", "killed", "interrupted", "running"])),
            snapshot=draw(NAMES),
            results=frozenset(draw(st.sets(st.sampled_from(results)))),
            versions=frozenset(draw(st.sets(NAMES))),
            shown=frozenset(draw(st.sets(st.tuples(st.just(draw(NAMES)), st.sampled_from(["linear", "knn"]))))),
        )
        for number in range(draw(st.integers(0, 5)))
    )
    paths = [row.path for row in registry] + [f"cells/{result}" for result in results]
    paths += [path for snapshot in versions for path in snapshot_paths(snapshot)]
    shown = st.sampled_from([path for path in paths if not path.startswith("raw/snapshots")])
    return Inventory(
        now=NOW,
        runs=runs,
        registry=tuple(registry),
        items=dict.fromkeys(sorted({*paths} - draw(st.sets(st.sampled_from(paths)))), Item("orphan", 1)),
        records={run.run_id: 1 for run in runs},
        published=frozenset(draw(st.sets(shown))),
        searched=frozenset(draw(st.sets(NAMES))),
        retired={
            path: NOW - timedelta(hours=draw(st.integers(0, 48))) for path in draw(st.sets(st.sampled_from(paths)))
        },
    )


POLICIES = st.builds(
    Policy,
    keep_runs=st.none() | st.integers(1, 4),
    keep_days=st.none() | st.integers(1, 6),
    grace_hours=st.sampled_from([0.0, 12.0]),
)


def origins(version: str, rows: dict[str, BuiltTable]) -> set[str]:
    """What a version was made from, told the slow way."""
    if version not in rows:
        return set()
    upstream = rows[version].upstream
    if upstream is None:
        return {other for other in rows if rows[other].snapshot == rows[version].snapshot}
    return set(upstream).union(*(origins(at, rows) for at in upstream))


@given(inventories(), POLICIES)
@settings(max_examples=amount(80, 400), deadline=None)
def test_nothing_needed_is_ever_in_a_plan(inventory, policy) -> None:
    plan = make_plan(inventory, policy)
    removed = {*plan.files, *plan.later}
    kept = [run for run in inventory.runs if run.run_id not in plan.runs]
    newest_first = sorted(inventory.runs, key=lambda run: (run.started_at, run.run_id), reverse=True)
    completed = [run for run in newest_first if run.status == "completed"]

    assert all(run in kept for run in newest_first if run.status == "running")
    assert all(run in kept for run in completed[: policy.keep_runs or 1])
    for run in newest_first:
        if policy.keep_days and NOW - run.started_at <= timedelta(days=policy.keep_days):
            assert run in kept
    for run in kept:
        assert not {f"cells/{result}" for result in run.results} & removed
        assert not {path for path in removed if path.startswith("cells/") and path.endswith(run.run_id)}
        assert not {*snapshot_paths(run.snapshot)} & removed
        for cell in run.shown:  # the newest result on the same tracks is still there
            assert next(other for other in newest_first if cell in other.shown) in kept
    assert not {path for path in inventory.published if not path.startswith("cells/")} & removed

    rows = {row.version: row for row in inventory.registry}
    named = {version for run in kept for version in run.versions} | inventory.searched
    used = named.union(*(origins(version, rows) for version in named))
    assert not {rows[version].path for version in used if version in rows} & removed
    for version in named & rows.keys():
        assert not {*snapshot_paths(rows[version].snapshot)} & removed
    snapshots = {run.snapshot for run in kept}
    for table in {(row.table_name, row.protocol, row.snapshot) for row in rows.values() if row.snapshot in snapshots}:
        built = [row for row in inventory.registry if (row.table_name, row.protocol, row.snapshot) == table]
        assert any(row.path not in removed for row in built if row.built_at == max(row.built_at for row in built))
    # A table without a row in the registry would not be found again.
    assert {row.path for row in inventory.registry if row not in plan.rows}.isdisjoint(
        inventory.items.keys() - plan.files.keys()
    )


@given(inventories(), POLICIES)
@settings(max_examples=amount(40, 200), deadline=None)
def test_all_that_is_not_needed_goes_in_the_end_and_only_after_its_grace(inventory, policy) -> None:
    plan = make_plan(inventory, policy)
    for path in plan.files:
        assert inventory.retired.get(path, NOW) <= NOW - timedelta(hours=policy.grace_hours)
    afterwards = replace(
        inventory,
        now=NOW,
        runs=tuple(run for run in inventory.runs if run.run_id not in plan.runs),
        registry=plan.rows,
        items={path: item for path, item in inventory.items.items() if path not in plan.files},
        records={name: size for name, size in inventory.records.items() if name not in plan.runs},
        retired=plan.retired,
    )
    again = make_plan(afterwards, policy)
    assert (again.going, again.retired) == ({}, plan.retired)
    last = make_plan(replace(afterwards, now=NOW + timedelta(hours=12)), replace(policy, keep_days=None, keep_runs=4))
    left = inventory.items.keys() - plan.files.keys() - last.files.keys()
    assert left <= needed_paths(inventory, list(inventory.runs))


def test_sizes_are_told_of_a_folder_from_which_others_go_meanwhile(tmp_path, monkeypatch) -> None:
    """As those in which a run that is in progress writes."""
    for name in ("one", "another"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"123")
    lstat = Path.lstat

    def lstat_as_another_removes(path: Path) -> os.stat_result:
        for folder in {*tmp_path.iterdir()} - {path, path.parent} if path.name == "file" else ():
            shutil.rmtree(folder)
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", lstat_as_another_removes)
    assert size_of(tmp_path) == 3
