"""Appended snapshots: what is kept, what is made anew, and that both are what the full build makes."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from tasks.errors import CheckError, InputError, UserError
from tasks.features import append as increment
from tasks.features.build import build_features
from tasks.features.registry import BuiltTable, read_registry
from tasks.features.tables import rare_genres
from tasks.ingest.read import Append, ingest
from tasks.ingest.snapshots import Snapshot, attach, find_snapshot
from tasks.prediction import champions
from tasks.prediction.batch import predict_file
from tasks.prediction.candidates import lineage
from tasks.results.publish import publish
from tasks.specs import protocol_named
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse
from tasks.training import large_tables
from tasks.upkeep import cleanup
from tests.helpers.amounts import mostly_long
from tests.helpers.runs import make_run
from tests.helpers.tracks import many, tracks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
PROTOCOLS = ("published", "cold_start", "recordings_any")


def write(frame: pl.DataFrame, path: Path) -> str:
    frame.write_csv(path)
    return str(path)


@pytest.fixture(scope="module")
def halves(tmp_path_factory) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A base and new tracks, with artists and recordings in common, missing values, rejects and a repeated id."""
    frame = many(1_500, ("Jazz", "Rap", "Polka"))
    row = pl.int_range(pl.len())
    frame = frame.with_columns(
        artist_name=("A" + (row * 7 % 400).cast(pl.String)),
        popularity=pl.when(row % 500 == 3).then(pl.lit("many")).otherwise("popularity"),
        instance_id=pl.when(row == 1_300).then(pl.col("instance_id").first()).otherwise("instance_id"),
    )
    return frame[:1_100], frame[1_100:]


@pytest.fixture(scope="module")
def home(tmp_path_factory, halves) -> Warehouse:
    """A warehouse with the base, and the new tracks appended both ways."""
    home = Warehouse.at(tmp_path_factory.mktemp("appended"))
    for name, frame in zip(("base", "new"), halves, strict=True):
        write(frame, home.root / f"{name}.csv")
    write(pl.concat(halves), home.root / "whole.csv")
    return home


def read(name: str, home: Warehouse, append: Append | None = None) -> Snapshot:
    return ingest(str(home.root / f"{name}.csv"), {}, 0.05, home, append)


def appended(home: Warehouse, statistics: str) -> Snapshot:
    return read("new", home, Append(read("base", home).snapshot, statistics))


def tables(built: list[BuiltTable], home: Warehouse) -> dict[str, pl.DataFrame]:
    frames = {row.table_name: pl.read_parquet(home.root / row.path) for row in built}
    return {name: frame.sort("track_id") if "track_id" in frame.columns else frame for name, frame in frames.items()}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_relearned_is_the_full_build_of_the_whole_file(home, protocol) -> None:
    ours = tables(build_features(appended(home, "relearned"), protocol, 20, home), home)
    whole = tables(build_features(read("whole", home), protocol, 20, home), home)
    assert ours.keys() == whole.keys()
    for name, frame in whole.items():
        assert ours[name].equals(frame), name


def test_raw_tables_are_those_of_the_whole_file(home) -> None:
    found = []
    for snapshot in (appended(home, "kept"), read("whole", home)):
        with duck.workspace(home.root / "tmp") as connection:
            attach(connection, snapshot.snapshot, home)
            rows = [
                connection.execute(f"select {columns} from {name} order by row_number").fetchall()
                for name, columns in (("raw.tracks", "*"), ("staging.typed_tracks", "*"), ("raw.rejects", "row_number"))
            ]
            counts = (snapshot.rows_read, snapshot.rejected_rows, snapshot.rejected_values)
            found.append([*rows, counts])
            if snapshot.base:
                last = connection.execute("select line, error from raw.rejects order by row_number desc").fetchall()[0]
    assert found[0] == found[1]
    assert len(found[0][2]) == 4
    assert last[0] == 1_301 - 1_100 + 1
    assert last[1].startswith("this id stands in the snapshot that is appended to: ")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_kept_is_what_the_full_selects_make_by_the_statistics_of_the_base(home, protocol) -> None:
    snapshot = appended(home, "kept")
    built = {row.table_name: row for row in build_features(snapshot, protocol, 20, home)}
    base = {row.table_name: row for row in build_features(read("base", home), protocol, 20, home)}
    assert all(built[name] is base[name] or built[name].version == base[name].version for name in increment.FITTED)
    spec = protocol_named(protocol)
    with duck.workspace(home.root / "tmp") as connection:
        attach(connection, snapshot.snapshot, home)
        for name in (*increment.FITTED, "staging.rare_genres", "features.split_assignment"):
            duck.view(connection, name, home.root / built[name].path)
        for table in increment.extended():
            if table.name in {"staging.rare_genres", "features.split_assignment"}:
                continue
            select = table.select(spec)
            text = duck.render(select, **duck.dynamic_columns(select, connection))
            values = duck.bound(duck.source(select), {"protocol": protocol})
            connection.execute(f"create table {table.name} as {text}", values)
            whole = connection.sql(f"from {table.name}").pl().sort("track_id")
            ours = pl.read_parquet(home.root / built[table.name].path)
            assert ours.sort("track_id").equals(whole), table.name
            assert built[table.name].rows == whole.height
            before = pl.read_parquet(home.root / base[table.name].path)
            assert ours[: before.height].equals(before), table.name


def test_val_and_test_rows_are_those_of_the_base(home) -> None:
    for protocol in PROTOCOLS:
        ours = tables(build_features(appended(home, "kept"), protocol, 20, home), home)["features.split_assignment"]
        before = tables(build_features(read("base", home), protocol, 20, home), home)["features.split_assignment"]
        assert ours.filter(pl.col("track_id").is_in(before["track_id"].to_list())).equals(before)
        new = ours.filter(~pl.col("track_id").is_in(before["track_id"].to_list()))
        assert new.height == 399
        assert set(new["split"]) == ({"train"} if protocol == "published" else {"train", "unused"})
        for split, of_split in ours.group_by("split"):
            assert sorted(of_split["position"]) == list(range(of_split.height)), split


def test_a_new_track_is_linked_through_other_new_ones_but_not_through_training(warehouse) -> None:
    base = many(200).with_columns(artist_name=pl.int_range(pl.len()).cast(pl.String))
    write(base, warehouse.root / "base.csv")
    snapshot = read("base", warehouse)
    split = tables(build_features(snapshot, "cold_start", 20, warehouse), warehouse)["features.split_assignment"]
    artist = dict(base.select(pl.col("instance_id").cast(pl.Float64).cast(pl.Int64), "artist_name").iter_rows())
    by_side = {side: [artist[track] for track in split.filter(split=side)["track_id"]] for side in ("train", "test")}
    known = base.filter(artist_name=by_side["test"][0])
    ten = ["acousticness", "danceability", "energy", "instrumentalness", "key", "liveness", "loudness", "mode",
           "speechiness", "valence"]  # fmt: skip
    new = many(8).with_columns(instance_id=(1 + pl.int_range(pl.len())).cast(pl.String), music_genre=pl.lit("Rap"))
    artists = [by_side["test"][1], "B", "B", "C", "C", by_side["train"][0], by_side["train"][0], "D"]
    new = new.with_columns(artist_name=pl.Series(artists))
    # 2 is a recording of a test track, so 3, by the same artist, stays out, too. 5 and 6 are one recording.
    row = pl.int_range(pl.len())
    fifth = new.row(4, named=True)
    new = new.with_columns(
        pl.when(row == 1).then(pl.lit(known[name][0])).when(row == 5).then(pl.lit(fifth[name])).otherwise(name)
        .alias(name) for name in ten
    )  # fmt: skip
    write(new, warehouse.root / "new.csv")
    built = build_features(read("new", warehouse, Append(snapshot.snapshot, "kept")), "cold_start", 20, warehouse)
    found = tables(built, warehouse)["features.split_assignment"].head(8)
    assert found["track_id"].to_list() == list(range(1, 9))
    assert found["split"].to_list() == ["unused"] * 3 + ["train"] * 5
    assert found["group_id"].to_list() == [1, 2, 2, 4, 4, 4, 4, 8]
    [line] = increment.left_out(built, warehouse)
    assert line.startswith("cold_start: 3 of 8 appended tracks are linked to validation or test tracks")
    # 9 is linked to 1 alone, which stays out.
    write(new.head(1).with_columns(instance_id=pl.lit("9"), valence=pl.lit("0.123")), warehouse.root / "more.csv")
    more = read("more", warehouse, Append(read("new", warehouse, Append(snapshot.snapshot, "kept")).snapshot, "kept"))
    found = tables(build_features(more, "cold_start", 20, warehouse), warehouse)["features.split_assignment"]
    assert found.row(8, named=True)["split"] == "unused"
    assert len(list((warehouse.root / "features" / "tracks_std").glob("*/*"))) == 2 + 3


def test_a_track_on_the_wrong_side_is_caught(home, monkeypatch, warehouse) -> None:
    label_free = protocol_named("label_free")
    split = increment.split_appended
    monkeypatch.setattr(increment, "split_appended", lambda _, tracks, taken: split(label_free, tracks, taken))
    for name in ("base", "new"):
        (warehouse.root / f"{name}.csv").write_bytes((home.root / f"{name}.csv").read_bytes())
    with pytest.raises(CheckError, match="groups_apart"):
        build_features(appended(warehouse, "kept"), "cold_start", 20, warehouse)


def test_genres_that_the_base_does_not_know_are_left_out_and_told(warehouse) -> None:
    write(many(200), warehouse.root / "base.csv")
    new = many(60, ("Jazz", "Polka")).with_columns(instance_id=pl.int_range(pl.len()).cast(pl.String))
    write(new, warehouse.root / "new.csv")
    kept = build_features(appended(warehouse, "kept"), "label_free", 20, warehouse)
    assert rare_genres(kept, warehouse) == (
        "30 rows of 1 genre(s) too rare to split, or not known to the statistics that are kept, dropped "
        "(see staging.rare_genres): 'Polka'"
    )
    assert tables(kept, warehouse)["features.tracks_std"].height == 230
    relearned = build_features(appended(warehouse, "relearned"), "label_free", 20, warehouse)
    assert tables(relearned, warehouse)["features.tracks_std"].height == 260


def test_appending_again_adds_nothing(home, warehouse) -> None:
    base, kept, relearned = read("base", home), appended(home, "kept"), appended(home, "relearned")
    build_features(kept, "published", 20, home)
    before = sorted(home.root.rglob("*.parquet"))
    assert appended(home, "kept") == kept
    assert read("new", home, Append(kept.snapshot, "kept")) == kept
    assert read("new", home, Append(kept.snapshot, "relearned")) == relearned != kept
    assert replace(read("base", home, Append(kept.snapshot, "kept")), source="") == replace(kept, source="")
    assert read("base", home, Append(base.snapshot)).snapshot == base.snapshot
    assert all(row.reused for row in build_features(kept, "published", 20, home))
    assert sorted(home.root.rglob("*.parquet")) == before
    assert kept.source == "base.csv + new.csv"
    assert ingest(f"snapshot:{kept.snapshot}", {}, 0.05, home) == kept


def test_latest_is_what_is_published(home, halves) -> None:
    kept = appended(home, "kept")
    built = build_features(kept, "published", 20, home)
    publish(kept, built, home)
    read("base", home)
    assert find_snapshot("latest", home) == kept
    with duck.connect(home.database) as connection:
        for name, rows in (("raw.tracks", 1_500), ("features.tracks_std", 1_496), ("raw.rejects", 4)):
            assert connection.execute(f"select count(*) from {name}").fetchall() == [(rows,)]
        [(parts, statistics)] = connection.execute(
            "select parts, statistics from raw.snapshots where is_published"
        ).fetchall()
    assert (tuple(parts), statistics) == (kept.parts, "kept")
    listed = (home.manifest() or {})["tables"]["features.tracks_std"]
    assert listed["rows"] == pl.read_parquet([home.root / file for file in listed["files"]]).height == 1_496
    assert len(listed["files"]) == 2


def test_what_cannot_be_appended_is_refused(home, warehouse) -> None:
    base = read("base", home)
    with pytest.raises(UserError, match=r"generated tracks are not appended to real ones \(base\.csv\)"):
        ingest("sample:100", {}, 0.05, home, Append(base.snapshot))
    with pytest.raises(UserError, match="has no snapshot 'nowhere'"):
        read("new", home, Append("nowhere"))
    with pytest.raises(UserError, match="is a snapshot already"):
        ingest(f"snapshot:{base.snapshot}", {}, 0.05, home, Append(base.snapshot))
    with pytest.raises(UserError, match="nothing is published"):
        ingest("snapshot:latest", {}, 0.05, warehouse)
    generated = ingest("sample:100", {}, 0.05, warehouse)
    assert ingest("sample:50", {}, 1.0, warehouse, Append(generated.snapshot)).is_generated
    with pytest.raises(UserError, match=r"real tracks are not appended to generated ones \(sample:100\)"):
        read("base", home, Append(ingest("sample:100", {}, 0.05, home).snapshot))
    # Bad values count among the new rows, not among all.
    write(tracks({"popularity": "x"}, {}).with_columns(instance_id=pl.Series(["1", "2"])), home.root / "bad.csv")
    with pytest.raises(InputError, match="1 of 2 rows have bad values"):
        read("bad", home, Append(base.snapshot))


def test_ids_and_row_numbers_are_not_mixed(warehouse) -> None:
    write(many(40), warehouse.root / "with.csv")
    write(many(40).drop("instance_id"), warehouse.root / "without.csv")
    for first, second, reason in (
        ("with", "without", "the tracks that it is appended to have a column instance_id, the file does not"),
        ("without", "with", "the file has a column instance_id, the tracks that it is appended to do not"),
    ):
        base = read(first, warehouse)
        with pytest.raises(InputError, match=reason):
            read(second, warehouse, Append(base.snapshot))
        write(many(10).drop("instance_id"), warehouse.root / "more.csv")
    assert read("more", warehouse, Append(base.snapshot)).rows_read == 50


def test_a_file_adds_nothing_again_even_if_the_sql_that_reads_it_is_another(warehouse, monkeypatch) -> None:
    for name, rows in (("base", 40), ("new", 10)):
        write(many(rows).drop("instance_id"), warehouse.root / f"{name}.csv")
    base = read("base", warehouse)
    joined = read("new", warehouse, Append(base.snapshot))
    original = duck.source
    monkeypatch.setattr(duck, "source", lambda name: original(name) + "\n/* changed */")
    assert read("new", warehouse, Append(joined.snapshot)).rows_read == 50
    monkeypatch.undo()
    write(many(5).drop("instance_id"), warehouse.root / "newer.csv")
    newest = read("newer", warehouse, Append(joined.snapshot))
    monkeypatch.setattr(duck, "source", lambda name: original(name) + "\n/* changed */")
    assert read("new", warehouse, Append(newest.snapshot)) == newest


@pytest.mark.parametrize("is_large", mostly_long([False, True], False))
def test_models_are_trained_on_kept_tables_and_predict_by_their_statistics(is_large, warehouse, monkeypatch) -> None:
    if is_large:
        monkeypatch.setattr(large_tables, "LARGE_ROWS", 0)
    write(many(600), warehouse.root / "base.csv")
    write(many(100).with_columns(instance_id=pl.int_range(pl.len()).cast(pl.String)), warehouse.root / "new.csv")
    snapshot = appended(warehouse, "kept")
    run = make_run(warehouse, f"snapshot:{snapshot.snapshot}", ["xgboost"], protocols=["cold_start"])
    champions.choose(run, warehouse, 1)
    built = build_features(snapshot, "cold_start", 20, warehouse)
    with duck.connect(warehouse.database) as connection:
        trained = connection.execute(
            "select distinct n_train, feature_version, snapshot from results.cells join results.runs using (run_id)"
        ).fetchall()
    std = next(row for row in built if row.table_name == "features.tracks_std")
    stored = pl.read_parquet(warehouse.root / std.path)
    assert trained == [(stored.filter(split="train").height, std.version, snapshot.snapshot)]
    assert trained[0][0] > 600 * 0.7 + 50
    for row in built:
        if row.table_name in {"features.tracks_std", "features.tracks_pca", "features.tracks_multitask"}:
            found = lineage(row.version, warehouse)
            assert {one.version for one in found.values()} <= {one.version for one in built}
    # Prediction prepares tracks as training did: the model says of test tracks what it said then.
    said = pl.read_parquet(warehouse.root / "cells" / "*" / "predictions.parquet")
    said = said.filter(split="test", task="popularity").select("track_id", "y_pred").sort("track_id")
    predict_file(str(warehouse.root / "base.csv"), str(warehouse.root / "out.parquet"), warehouse, None, {})
    out = pl.read_parquet(warehouse.root / "out.parquet").join(said, on="track_id").sort("track_id")
    assert out["popularity"].to_list() == said["y_pred"].clip(0.0, 100.0).to_list()
    assert out.height > 50
    tidied = cleanup.tidy(cleanup.Policy(keep_runs=1, grace_hours=0.0), 0.0, lambda: None, warehouse)
    assert not {name for name in tidied.going if name.startswith("raw")}
    assert all((warehouse.root / row.path).exists() for row in built)


@pytest.mark.long
def test_upkeep_keeps_what_an_appended_snapshot_shows_and_no_more(warehouse) -> None:
    """Night after night a file is appended, with kept statistics; then all is relearned."""
    write(many(300), warehouse.root / "new0.csv")
    snapshot, sizes = read("new0", warehouse), []
    for night in range(1, 4):
        fresh = many(300).head(20).with_columns(instance_id=(night * 1_000 + pl.int_range(pl.len())).cast(pl.String))
        write(fresh, warehouse.root / f"new{night}.csv")
        snapshot = read(f"new{night}", warehouse, Append("latest" if night > 1 else snapshot.snapshot, "kept"))
        make_run(warehouse, f"snapshot:{snapshot.snapshot}", ["linear"])
        cleanup.tidy(cleanup.Policy(keep_runs=1, grace_hours=0.0), 0.0, lambda: None, warehouse)
        sizes.append(len(list((warehouse.root / "features" / "tracks_std").glob("*.parquet"))))
        with duck.connect(warehouse.database) as connection:
            for name in ("raw.tracks", "staging.typed_tracks", "features.tracks_std"):
                assert connection.execute(f"select count(*) from {name}").fetchall() == [(300 + 20 * night,)]
    assert len(snapshot.parts) == 4
    assert sizes[1:] == [sizes[1]] * 2  # the tables of the nights between are gone
    relearned = read("new3", warehouse, Append("latest", "relearned"))
    make_run(warehouse, f"snapshot:{relearned.snapshot}", ["linear"])
    cleanup.tidy(cleanup.Policy(keep_runs=1, grace_hours=0.0), 0.0, lambda: None, warehouse)
    assert [path.is_dir() for path in (warehouse.root / "features" / "tracks_std").glob("*.parquet")] == [False]
    assert len(list((warehouse.root / "raw" / "tracks").glob("*.parquet"))) == 4
    assert {path.stem for path in (warehouse.root / "raw" / "snapshots").glob("*.parquet")} == {*relearned.parts}
    make_run(warehouse, "sample:200", ["linear"])  # a trial, beside which the current catalogue's newest run stays
    cleanup.tidy(cleanup.Policy(keep_runs=1, grace_hours=0.0), 0.0, lambda: None, warehouse)
    assert len(list((warehouse.root / "raw" / "tracks").glob("*.parquet"))) == 4 + 1


KILLED = """
import os, signal, sys
from tasks.features import append, build
from tasks.ingest.snapshots import find_snapshot
from tasks.storage.warehouse import Warehouse
home, write = Warehouse.at(sys.argv[1]), append.write_table
def killing(table, *others):
    rows = write(table, *others)
    if table.name == "features.tracks_std":
        os.kill(os.getpid(), signal.SIGKILL)
    return rows
append.write_table = killing
build.build_features(find_snapshot(sys.argv[2], home), "cold_start", 20, home)
"""


@pytest.mark.long
def test_a_killed_build_leaves_nothing_half(home, halves, warehouse) -> None:
    for name in ("base", "new"):
        (warehouse.root / f"{name}.csv").write_bytes((home.root / f"{name}.csv").read_bytes())
    snapshot = appended(warehouse, "kept")
    build_features(read("base", warehouse), "cold_start", 20, warehouse)
    before = len(read_registry(warehouse))
    command = [sys.executable, "-c", KILLED, str(warehouse.root), snapshot.snapshot]
    assert subprocess.run(command, check=False, cwd=ROOT).returncode == -signal.SIGKILL
    assert len(read_registry(warehouse)) == before
    assert (
        len(list((warehouse.root / "features" / "tracks_clean").glob("*.parquet"))) == 2
    )  # made, and counted by nobody
    assert len(list((warehouse.root / "features" / "tracks_std").glob("*.parquet"))) == 1
    ours = tables(build_features(snapshot, "cold_start", 20, warehouse), warehouse)
    expected = tables(build_features(appended(home, "kept"), "cold_start", 20, home), home)
    assert all(ours[name].equals(expected[name]) for name in expected)
    warehouse.sweep()
    assert not [path for path in (warehouse.root / "tmp").iterdir() if not path.name.endswith(".lock")]
