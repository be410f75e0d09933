"""Each check lets the tables through as they are, and stops a build that was made to break its rule."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.preparing import Preparation
from tasks.errors import CheckError
from tasks.features import build, checks, tables
from tasks.features import splits as split
from tasks.features.build import build_features
from tasks.ingest.read import Append, ingest
from tasks.specs import PROTOCOLS, protocol_named
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse

# What is changed in the SQL, and the check that must see it.
SQL_MUTANTS = [
    ("finite", "features/tracks_std.sql", "clean.popularity,", "nullif(clean.popularity, 50) as popularity,"),
    ("finite", "features/tracks_std.sql", "/ scaling.{{ name }}_std", "/ 0.0"),
    (
        "labels_unused",
        "features/tracks_clean.sql",
        "coalesce(tracks.{{ name }},",
        "coalesce(tracks.{{ name }}, 100 + mapping.genre_id,",
    ),
    ("learnt_from_training_rows", "protocols/label_free/fill_values.sql", "where split.split = 'train'", ""),
    ("learnt_from_training_rows", "features/scaling.sql", "where split = 'train'", ""),
    ("learnt_from_training_rows", "features/z_scores.sql", "where clean.split = 'train'", ""),
]  # fmt: skip


@pytest.fixture
def sql_copy(tmp_path, monkeypatch):
    """A copy of sql/ that may be changed."""
    root = tmp_path / "sql"
    shutil.copytree(duck.SQL_ROOT, root)
    monkeypatch.setattr(duck, "SQL_ROOT", root)
    duck._templates.cache_clear()
    yield root
    duck._templates.cache_clear()


@pytest.fixture
def tried(monkeypatch) -> list[str]:
    """The checks that were run."""
    names: list[str] = []
    run = checks.run
    monkeypatch.setattr(checks, "run", lambda name, *on: (names.append(name), run(name, *on)))
    return names


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tables_as_they_are_pass(protocol, sample_snapshot, shared_warehouse) -> None:
    assert build_features(sample_snapshot, protocol, 20, shared_warehouse)


@pytest.mark.slow
@pytest.mark.parametrize(("check", "file", "old", "new"), SQL_MUTANTS)
def test_a_check_catches_changed_sql(check, file, old, new, sql_copy, warehouse) -> None:
    text = (sql_copy / file).read_text(encoding="utf-8")
    assert old in text
    (sql_copy / file).write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(CheckError, match=f"checks/{check}.sql"):
        build_features(ingest("sample:2000", {}, 0.05, warehouse), "label_free", 20, warehouse)


@pytest.mark.parametrize(
    "change",
    [
        lambda split: split.slice(1),
        lambda split: split.take([0, *range(split.num_rows)]),
    ],
    ids=["lost", "twice"],
)
def test_a_track_must_be_in_exactly_one_split(change, warehouse, monkeypatch) -> None:
    original = tables.split_tracks
    monkeypatch.setattr(tables, "split_tracks", lambda protocol, tracks: change(original(protocol, tracks)))
    snapshot = ingest("sample:2000", {}, 0.05, warehouse)
    with pytest.raises(CheckError, match=r"checks/one_split\.sql: track_id \d+, splits [02]"):
        build_features(snapshot, "published", 20, warehouse)


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("labels_unused", {"fill": "protocols/published/fill_values"}),
        ("groups_apart", {"split": "study"}),
    ],
)
def test_a_check_catches_another_protocols_way(check, change, warehouse, monkeypatch) -> None:
    wrong = dataclasses.replace(protocol_named("cold_start"), checks=(check,), **change)
    monkeypatch.setattr(build, "protocol_named", lambda _: wrong)
    with pytest.raises(CheckError, match=f"checks/{check}.sql"):
        build_features(ingest("sample:2000", {}, 0.05, warehouse), "cold_start", 20, warehouse)


@pytest.mark.parametrize("left_out", ["recordings", "artists"])
def test_a_probe_that_leaves_nothing_out_is_caught(left_out, warehouse, monkeypatch) -> None:
    monkeypatch.setattr(split, "_leave_out", lambda parts, *_: parts)
    with pytest.raises(CheckError, match=f"checks/{left_out}_apart.sql"):
        build_features(ingest("sample:2000", {}, 0.05, warehouse), f"{left_out}_apart", 20, warehouse)


@pytest.mark.slow
def test_what_broke_a_rule_is_not_trained_on_by_the_next_run(sql_copy, warehouse) -> None:
    file = sql_copy / "features/scaling.sql"
    file.write_text(file.read_text(encoding="utf-8").replace("where split = 'train'", ""), encoding="utf-8")
    snapshot = ingest("sample:2000", {}, 0.05, warehouse)
    for _ in range(2):
        with pytest.raises(CheckError):
            build_features(snapshot, "label_free", 20, warehouse)


@pytest.mark.slow
def test_a_command_checks_once_what_it_prepares_before_its_flow_and_in_it(warehouse, tried) -> None:
    Preparation.of("sample:2000", "", "label_free", str(warehouse.root), 0.05, 20).before_flow()
    expected = sorted(checks.of(protocol_named("label_free")))
    assert sorted(tried) == expected
    snapshot = ingest("sample:2000", {}, 0.05, warehouse)
    build_features(snapshot, "label_free", 20, warehouse)
    assert sorted(tried) == expected
    build_features(snapshot, "label_free", 19, warehouse)  # which makes other versions
    assert sorted(tried) == sorted(expected * 2)


@pytest.mark.slow
def test_appended_tracks_are_checked_once(warehouse, tried) -> None:
    base = ingest("sample:2000", {}, 0.05, warehouse)
    build_features(base, "cold_start", 20, warehouse)
    more = ingest("sample:2500", {}, 1.0, warehouse, Append(base.snapshot, "kept"))
    tried.clear()
    for _ in range(2):
        build_features(more, "cold_start", 20, warehouse)
    rules = {*checks.of(protocol_named("cold_start"))} - {"checks/learnt_from_training_rows"}  # that holds for the base
    assert sorted(tried) == sorted(rules)


@pytest.mark.slow
def test_another_warehouse_is_checked_by_itself(tmp_path, warehouse, tried) -> None:
    for home in (warehouse, Warehouse.at(tmp_path / "other")):
        tried.clear()
        build_features(ingest("sample:2000", {}, 0.05, home), "published", 20, home)
        assert len(tried) == len(protocol_named("published").checks)


@pytest.mark.slow
def test_another_process_checks_what_it_reuses(sample_tables, sample_snapshot, shared_warehouse) -> None:
    code = """if True:
        import sys
        from tasks.features import build, checks, tables
        from tasks.ingest.snapshots import load_snapshot
        from tasks.storage.warehouse import Warehouse
        home = Warehouse.at(sys.argv[1])
        built = build.build_features(load_snapshot(sys.argv[2], home), "published", 20, home)
        print(all(row.reused for row in built), len(checks.HELD))
    """
    ended = subprocess.run(
        [sys.executable, "-c", code, str(shared_warehouse.root), sample_snapshot.snapshot],
        cwd=Path(duck.__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.split() == ["True", str(len(protocol_named("published").checks))]
