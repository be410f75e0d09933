"""Each check lets the tables through as they are, and stops a build that was made to break its rule."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from tasks import duck, features, split
from tasks.errors import CheckError
from tasks.features import build_features
from tasks.ingest import ingest
from tasks.specs import PROTOCOLS, protocol_named

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


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tables_as_they_are_pass(protocol, sample_snapshot, shared_warehouse) -> None:
    assert build_features(sample_snapshot, protocol, 20, shared_warehouse)


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
    original = features.split_tracks
    monkeypatch.setattr(features, "split_tracks", lambda protocol, tracks: change(original(protocol, tracks)))
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
    monkeypatch.setattr(features, "protocol_named", lambda _: wrong)
    with pytest.raises(CheckError, match=f"checks/{check}.sql"):
        build_features(ingest("sample:2000", {}, 0.05, warehouse), "cold_start", 20, warehouse)


@pytest.mark.parametrize("left_out", ["recordings", "artists"])
def test_a_probe_that_leaves_nothing_out_is_caught(left_out, warehouse, monkeypatch) -> None:
    monkeypatch.setattr(split, "_leave_out", lambda parts, *_: parts)
    with pytest.raises(CheckError, match=f"checks/{left_out}_apart.sql"):
        build_features(ingest("sample:2000", {}, 0.05, warehouse), f"{left_out}_apart", 20, warehouse)


def test_what_broke_a_rule_is_not_trained_on_by_the_next_run(sql_copy, warehouse) -> None:
    file = sql_copy / "features/scaling.sql"
    file.write_text(file.read_text(encoding="utf-8").replace("where split = 'train'", ""), encoding="utf-8")
    snapshot = ingest("sample:2000", {}, 0.05, warehouse)
    for _ in range(2):
        with pytest.raises(CheckError):
            build_features(snapshot, "label_free", 20, warehouse)
