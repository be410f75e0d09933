"""Whatever stands in the names of tracks, artists, genres, columns and files is text: it is kept and does nothing."""

from __future__ import annotations

import os

import duckdb
import polars as pl
import pytest

from tasks.errors import InputError, UserError
from tasks.features.build import build_features
from tasks.features.tables import rare_genres
from tasks.ingest.read import ingest
from tasks.reporting.terminal import print_run
from tasks.results.publish import publish
from tasks.specs import PROTOCOLS, Cell
from tasks.storage.warehouse import Warehouse
from tasks.training.runs import CellOutcome, finish_run, start_run
from tests.helpers.tracks import labelled, many, tracks
from tests.helpers.untrusted import UNTRUSTED

NAMES = (*(text for text in UNTRUSTED if text != "?"), "a\x00b")  # a question mark is no genre
ALIKE = {"\u00e7A": "\u00c7a", "a\rb": "a\tb"}  # which differ in case or white space alone


@pytest.mark.slow
@pytest.mark.parametrize("write", ["write_csv", "write_parquet"])
def test_names_are_kept_from_the_file_to_the_publication(write, tmp_path, warehouse) -> None:
    frame = labelled(NAMES)
    path = tmp_path / "x'; drop [red] $path.file"
    getattr(frame, write)(path)
    snapshot = ingest(str(path), {}, 0.0, warehouse)
    assert (snapshot.rows_read, snapshot.rejected_rows, snapshot.blank_rows) == (frame.height, 0, 0)
    built = {name: build_features(snapshot, name, 20, warehouse) for name in PROTOCOLS}
    tables = [table for made in built.values() for table in made]
    with duckdb.connect(str(publish(snapshot, tables, warehouse)), read_only=True) as connection:
        read = connection.sql("select artist_name, track_name, music_genre from raw.tracks order by row_number").pl()
        assert read.equals(frame.select(read.columns))
        staged = connection.sql("select artist_name, track_name, music_genre from staging.stg_tracks").pl()
        known = pl.col("artist_name").replace("empty_field", None)
        assert staged.equals(read.with_columns(known, pl.col("music_genre").replace(ALIKE)))
        mapping = connection.sql("from features.genre_mapping").pl()
        assert set(mapping["music_genre"]) == {*NAMES, "Jazz", "Rap"} - set(ALIKE)
        columns = mapping["column_name"].to_list()
        for protocol in PROTOCOLS:
            for table in ("tracks_one_hot", "tracks_multitask"):
                one_hot = connection.sql(f"from features.{table} where protocol = '{protocol}' order by track_id").pl()
                truth = connection.sql(
                    f"from features.tracks_clean where protocol = '{protocol}' order by track_id"
                ).pl()
                expected = truth.select(
                    (pl.col("music_genre") == genre).cast(pl.UInt8).alias(column)
                    for genre, column in mapping.select("music_genre", "column_name").iter_rows()
                )
                assert one_hot.select(columns).equals(expected)


@pytest.mark.slow
def test_genres_whose_column_would_be_anothers(tmp_path, warehouse) -> None:
    clashes = [("id", "id_0"), ("ID", "id_0", "id_1"), ("a", "a_1", "A_0"), ("a\x00b", "a?b")]
    for number, names in enumerate(clashes):
        path = tmp_path / f"{number}.parquet"
        many(200, names).write_parquet(path)
        built = build_features(ingest(str(path), {}, 0.0, warehouse), "published", 20, warehouse)
        table = next(row.path for row in built if row.table_name == "features.tracks_multitask")
        columns = [name for name in pl.read_parquet_schema(warehouse.root / table) if name.startswith("genre_")]
        assert len({name.lower() for name in columns} - {"genre_id"}) == len(names)


@pytest.mark.parametrize("name", [*UNTRUSTED, "x" * 200])
def test_a_column_of_any_name_can_be_mapped(name, tmp_path, warehouse) -> None:
    frame = tracks({"tempo": "77"}).rename({"tempo": name})
    for write in (frame.write_csv, frame.write_parquet):
        write(tmp_path / "t.file")
        snapshot = ingest(str(tmp_path / "t.file"), {"tempo": name}, 0.0, warehouse)
        typed = pl.read_parquet(warehouse.table("staging", "typed_tracks", snapshot.snapshot))
        assert typed["tempo"].to_list() == [77.0]


def test_messages_are_one_printable_line(tmp_path, warehouse) -> None:
    name = os.fsdecode(b"\xff\x1b[31m\n\xe2\x80\xae[red].csv")
    (tmp_path / name).write_text(tracks({"mode": "\x1b[31m\n"}).write_csv())
    with pytest.raises(InputError) as refusal:
        ingest(str(tmp_path / name), {}, 0.0, warehouse)
    assert str(refusal.value).startswith("??[31m ?[red].csv: 1 of 1 rows have bad values")
    assert str(refusal.value).isprintable()
    (tmp_path / name).write_text(many(100).rename({"tempo": "\x1b[31m\n\u202e"}).write_csv())
    with pytest.raises(InputError) as refusal:
        ingest(str(tmp_path / name), {}, 0.0, warehouse, required=["tempo"])
    assert str(refusal.value).isprintable()
    assert str(UserError("a\x1b\n b\u202e")) == "a? b?"


@pytest.mark.slow
def test_the_summary_shows_text_as_text(tmp_path, warehouse, capsys) -> None:
    path = tmp_path / os.fsdecode(b"[red]:smile:\x1b[31m\xff.csv")
    path.write_text(labelled(("[red]\x1b[2J", "Rare\x1b"), 25).write_csv())
    home = Warehouse.at(warehouse.root / "[bold]:smile:".replace("[", "(").replace("]", ")"))
    snapshot = ingest(str(path), {}, 0.0, home)
    built = build_features(snapshot, "published", 26, home)
    assert rare_genres(built, home) == (
        "50 rows of 2 genre(s) too rare to split dropped (see staging.rare_genres): 'Rare?', '[red]?[2J'"
    )
    run = start_run(snapshot, "smoke", home)
    cell = Cell(protocol="published", task="genre", model="svm", feature_set="all", seed=42, budget="smoke")
    finish_run(run, "failed", [failed(cell, "no [red]such[/] thing\x1b[2J\n:smile: \u202e")], home)
    publish(snapshot, built, home)
    print_run(run.run_id, home)
    printed = capsys.readouterr().out
    assert "no [red]such[/] thing?[2J :smile: ?" in printed
    assert "(bold):smile:" in printed
    assert printed.replace("\n", "").isprintable()
    with duckdb.connect(str(home.database), read_only=True) as connection:
        assert connection.execute("select source from results.runs").fetchall() == [("[red]:smile:?[31m?.csv",)]


def failed(cell: Cell, error: str) -> CellOutcome:
    return CellOutcome(
        cell=cell, status="failed", reused=False, error=error, cell_key="k", result=None, params="{}",
        feature_version="v", staging_version="v",
    )  # fmt: skip
