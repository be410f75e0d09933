from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from tasks.errors import InputError, UserError
from tasks.ingest import read as ingesting
from tasks.ingest.columns import EXPECTED, PUBLIC_FILES, parse_mapping
from tasks.ingest.read import ingest
from tasks.ingest.snapshots import attach
from tasks.storage import duck
from tasks.storage.urls import public_name
from tasks.storage.warehouse import Warehouse
from tests.helpers.tracks import TRACK, many, tracks


def rejects(warehouse: Warehouse, snapshot: str) -> list[tuple[int, str, str]]:
    rows = pq.read_table(warehouse.table("raw", "rejects", snapshot)).to_pylist()
    return [(row["line"], row["column_name"], row["error"]) for row in rows]


def raw(warehouse: Warehouse, snapshot: str) -> pl.DataFrame:
    with duck.connect() as connection:
        attach(connection, snapshot, warehouse)
        return connection.sql("from raw.tracks").pl()


@pytest.fixture
def csv(tmp_path: Path) -> Callable[[pl.DataFrame | str | bytes], str]:
    def write(content: pl.DataFrame | str | bytes) -> str:
        path = tmp_path / "tracks.csv"
        if isinstance(content, pl.DataFrame):
            content.write_csv(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


GOOD = tracks({}, {}).write_csv()
HEADER = GOOD.splitlines()[0]
KEY = "not a key name or a pitch class 0..11, or in another mode than column mode says"
MODE = "not Major, Minor, true, false, 1 or 0"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "are missing. Found: nothing"),
        (HEADER + "\n", "has a header but no rows"),
        (HEADER + "\n" + "," * 17 + "\n", "has a header but no rows"),
        (GOOD.replace("tempo", "speed"), "column 'tempo' is missing. Found: instance_id, artist_name"),
        (GOOD.replace("obtained_date", "tempo"), "column 'tempo' stands in the header 2 times"),
        (GOOD + "1,2,3\n", "line 4: 3 values where the header has 18 columns"),
        (GOOD + GOOD.splitlines()[1] + ",extra\n", "line 4: 19 values where the header has 18 columns"),
        (GOOD + '1,"no end\n', "does not end"),
        (GOOD.replace(",", ";"), "separated by semicolons"),
        (GOOD.replace(",", ";").replace("A Track", "A, Track, Op. 3, No. 4"), "separated by semicolons"),
        (GOOD.replace(",", "\t").replace("A Track", "A, Track, Op. 3, No. 4"), "separated by tabs"),
        (GOOD.replace(",", "\t"), "separated by tabs"),
        (GOOD.replace("An Artist", "Ärtist").encode("latin-1"), "UTF-8"),
        (GOOD.encode("utf-16"), "UTF-16"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "neither a CSV nor a Parquet"),
        (b"PK\x03\x04" + b"\x00" * 30, "ZIP archive or an Excel workbook"),
        (b"PAR1" + b"\x00" * 30, "not a readable Parquet file"),
        (gzip.compress(GOOD.encode(), mtime=0)[:60], "is a damaged gzip file"),
        (gzip.compress(GOOD.encode(), mtime=0)[:-8] + b"\x00" * 8, "is a damaged gzip file"),
        (GOOD.replace("A Track", '"A" "Track"', 1), "line 2: text after a closing quote"),
        ("<!doctype html>\n<html><body>404</body></html>\n", "are missing. Found: <!doctype html>"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused_by_name(content, message, csv, warehouse) -> None:
    with pytest.raises(InputError, match=r"tracks\.csv") as refusal:
        ingest(csv(content), {}, 1.0, warehouse, required=["tempo"])
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert list((warehouse.root / "tmp").glob("*.tmp")) == []


def test_a_file_that_is_not_there_is_refused(warehouse) -> None:
    with pytest.raises(InputError, match="No such file"):
        ingest("nowhere.csv", {}, 1.0, warehouse)


def test_columns_are_matched_by_name_in_any_order(csv, warehouse) -> None:
    frame = tracks({"tempo": "99.5"}, {"valence": "0.11"})
    straight = raw(warehouse, ingest(csv(frame), {}, 0.0, warehouse).snapshot)
    turned = raw(warehouse, ingest(csv(frame.select(reversed(frame.columns))), {}, 0.0, warehouse).snapshot)
    assert straight.equals(turned)
    assert straight["tempo"].to_list() == ["99.5", "120.5"]
    assert straight["valence"].to_list() == ["0.7", "0.11"]


@pytest.mark.slow
def test_csv_gzip_and_parquet_read_alike(csv, tmp_path, warehouse) -> None:
    frame = many(50)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(frame.write_csv().encode()))
    frame.write_parquet(tmp_path / "t.parquet")
    sources = [csv(frame), str(tmp_path / "t.csv.gz"), str(tmp_path / "t.parquet")]
    read = [raw(warehouse, ingest(source, {}, 0.0, warehouse).snapshot) for source in sources]
    assert read[0].height == 50
    assert read[0].equals(read[1])
    assert read[0].equals(read[2])


SPACED = "\n".join(", ".join(f'"{value}" ' for value in line.split(",")) for line in GOOD.splitlines())


@pytest.mark.parametrize("text", [GOOD.replace("\n", "\r\n"), "\ufeff" + GOOD, SPACED])
def test_windows_line_ends_byte_order_mark_and_spaces_around_quotes(text, csv, warehouse) -> None:
    snapshot = ingest(csv(text), {}, 0.0, warehouse)
    assert raw(warehouse, snapshot.snapshot).equals(raw(warehouse, ingest(csv(GOOD), {}, 0.0, warehouse).snapshot))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("within", ["\n", "\r\n", "\r"])
def test_line_breaks_in_quotes_may_differ_from_the_files(end, within, csv, warehouse) -> None:
    lines = tracks({}, {}, {}, track_name="two@lines").write_csv(quote_style="always")
    text = lines.replace("\n", end).replace("@", within).replace('"tempo"', f'"mood{within}of it","tempo"', 1)
    text = text.replace('"120.5"', '"","120.5"')
    read = raw(warehouse, ingest(csv(text), {}, 0.0, warehouse).snapshot)
    assert read["track_name"].to_list() == [f"two{within}lines"] * 3
    assert read["tempo"].to_list() == ["120.5"] * 3


@pytest.mark.parametrize(
    ("column", "value", "error"),
    [
        ("acousticness", "loud", "not a finite number: 'loud'"),
        ("energy", "inf", "not a finite number: 'inf'"),
        ("energy", "1e300", "not a finite number: '1e300'"),
        ("popularity", "", "not a number from 0 to 100: empty"),
        ("popularity", "NA", "not a number from 0 to 100: 'NA'"),
        ("popularity", "101", "not a number from 0 to 100: '101'"),
        ("popularity", "-1", "not a number from 0 to 100: '-1'"),
        ("tempo", "fast", "not a positive number: 'fast'"),
        ("duration_ms", "-5", "not a positive number: '-5'"),
        *(("key", text, f"{KEY}: '{text}'") for text in ("H", "12", "C#/D", "E major", "Cmaj7", "C##")),
        ("mode", "Dorian", f"{MODE}: 'Dorian'"),
        ("energy", "1_0", "not a finite number: '1_0'"),
        ("popularity", "5_0", "not a number from 0 to 100: '5_0'"),
        ("tempo", "1_20", "not a positive number: '1_20'"),
        ("duration_ms", "200_000", "not a positive number: '200_000'"),
        ("key", "1_1", f"{KEY}: '1_1'"),
        ("mode", "0_1", f"{MODE}: '0_1'"),
        ("instance_id", "x1", "not a whole number: 'x1'"),
        ("instance_id", "1", "this id stands in an earlier row: '1'"),
    ],
)
def test_a_bad_value_is_rejected_with_line_column_and_reason(column, value, error, csv, warehouse) -> None:
    frame = tracks({}, {}, {column: value}, {})
    snapshot = ingest(csv(frame), {}, 1.0, warehouse)
    assert rejects(warehouse, snapshot.snapshot) == [(4, column, error)]
    assert (snapshot.rows_read, snapshot.rejected_rows, snapshot.rejected_values) == (4, 1, 1)
    kept = pq.read_table(warehouse.table("raw", "rejects", snapshot.snapshot)).to_pylist()[0]["csv_line"]
    assert kept == frame.write_csv().splitlines()[3]


def test_lines_are_counted_through_line_breaks_and_empty_lines(csv, warehouse) -> None:
    text = tracks({"track_name": "two\nlines"}, {}, {"mode": "x"}).write_csv().splitlines(keepends=True)
    text.insert(3, "\n")
    snapshot = ingest(csv("".join(text)), {}, 1.0, warehouse)
    assert rejects(warehouse, snapshot.snapshot) == [(6, "mode", f"{MODE}: 'x'")]


def test_missing_codes_are_not_rejects(csv, warehouse) -> None:
    frame = tracks(
        {"tempo": "?"}, {"tempo": "0"}, {"tempo": ""}, {"duration_ms": "-1"}, {"duration_ms": "-1.0"},
        {"artist_name": "empty_field"}, {"key": "-1"}, {"key": ""},
    )  # fmt: skip
    snapshot = ingest(csv(frame), {}, 0.0, warehouse)
    assert snapshot.rejected_rows == 0


def test_blank_rows_are_dropped_and_counted(csv, warehouse) -> None:
    text = GOOD + "," * 17 + "\n" + tracks({}, instance_id="9").write_csv(include_header=False)
    snapshot = ingest(csv(text), {}, 0.0, warehouse)
    assert (snapshot.rows_read, snapshot.blank_rows, snapshot.rejected_rows) == (4, 1, 0)


def test_too_many_rejects_stop_and_are_kept(csv, warehouse) -> None:
    source = csv(tracks({}, {"mode": "x"}, {}, {}))
    with pytest.raises(
        InputError, match=r"1 of 4 rows have bad values, more than the 20.0% .* line 3, mode"
    ) as refusal:
        ingest(source, {}, 0.2, warehouse)
    path = str(refusal.value).rsplit(" ", 1)[1].rstrip(".")
    assert pq.read_table(path).num_rows == 1
    assert ingest(source, {}, 0.25, warehouse).rejected_rows == 1


def test_another_catalogue(csv, warehouse, tmp_path) -> None:
    frame = (
        tracks({"key": "11", "mode": "1", "tempo": "0"}, {"key": "Db", "mode": "major"}, {"key": "-1", "mode": "0"})
        .rename({"music_genre": "track_genre", "artist_name": "artists", "instance_id": "id"})
        .with_columns(explicit=pl.lit("False"))
        .drop("obtained_date")
    )
    (tmp_path / "names.toml").write_text('[columns]\nmusic_genre = "track_genre"\nartist_name = "artists"\n')
    for columns in ("music_genre=track_genre, artist_name=artists", str(tmp_path / "names.toml")):
        snapshot = ingest(csv(frame), parse_mapping(columns), 0.0, warehouse)
        read = raw(warehouse, snapshot.snapshot)
        assert read["instance_id"].to_list() == ["1", "2", "3"]
        assert read["artist_name"].to_list() == ["An Artist"] * 3
        assert "explicit" not in read.columns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("music_genre", "'music_genre' is not .* Known: tidytuesday, spotify_features, tracks_114, genres_v2"),
        ("tempo=a,tidytuesday", "'tidytuesday' is not of the form"),
        ("tidytuesday,", "'' is not of the form"),
        ("genre=track_genre", "unknown column 'genre'"),
        ("tempo=a,tempo=b", "'tempo' is given twice"),
        ("nowhere.toml", r"nowhere.toml: cannot be read \(No such file or directory"),
    ],
)
def test_a_wrong_mapping_is_refused(text, message) -> None:
    with pytest.raises(UserError, match=message):
        parse_mapping(text)


FEATURES_OF_SPOTIFY = (
    "danceability,energy,key,loudness,mode,speechiness,acousticness,instrumentalness,liveness,valence,tempo"
)
PUBLIC_HEADERS = {
    "tidytuesday": (
        "track_id,track_name,track_artist,track_popularity,track_album_id,track_album_name,track_album_release_date,"
        f"playlist_name,playlist_id,playlist_genre,playlist_subgenre,{FEATURES_OF_SPOTIFY},duration_ms"
    ),
    "spotify_features": (
        "genre,artist_name,track_name,track_id,popularity,acousticness,danceability,duration_ms,energy,"
        "instrumentalness,key,liveness,loudness,mode,speechiness,tempo,time_signature,valence"
    ),
    "tracks_114": (
        ",track_id,artists,album_name,track_name,popularity,duration_ms,explicit,danceability,energy,key,loudness,"
        "mode,speechiness,acousticness,instrumentalness,liveness,valence,tempo,time_signature,track_genre"
    ),
    "genres_v2": (
        f"{FEATURES_OF_SPOTIFY},type,id,uri,track_href,analysis_url,duration_ms,time_signature,genre,song_name,"
        "Unnamed: 0,title"
    ),
}


@pytest.mark.parametrize("name", PUBLIC_FILES)
def test_the_columns_of_public_files_are_known_by_name(name, tmp_path, warehouse) -> None:
    header = PUBLIC_HEADERS[name].split(",")
    ours = {theirs: ours for ours, theirs in PUBLIC_FILES[name].items()}
    row = [TRACK.get(ours.get(column, column), "of no use") for column in header]
    path = tmp_path / "public.csv"
    path.write_text("\n".join(map(",".join, [header, row, row])) + "\n")
    snapshot = ingest(str(path), parse_mapping(name), 0.0, warehouse)
    absent = {"instance_id", "obtained_date", *({"artist_name", "popularity"} if name == "genres_v2" else ())}
    assert set(snapshot.columns) == set(EXPECTED) - absent
    read = raw(warehouse, snapshot.snapshot)
    assert {column: read[column][0] for column in snapshot.columns} == {
        column: TRACK[column] for column in snapshot.columns
    }


def test_pairs_after_the_name_of_a_public_file_replace_its_own() -> None:
    assert parse_mapping(" tidytuesday , popularity=streams,key=chord") == {
        "artist_name": "track_artist",
        "popularity": "streams",
        "music_genre": "playlist_genre",
        "key": "chord",
    }


def test_a_mapping_is_read_of_a_file_that_ends(tmp_path) -> None:
    folder, pipe, endless = (tmp_path / f"{name}.toml" for name in ("folder", "pipe", "endless"))
    folder.mkdir()
    os.mkfifo(pipe)
    endless.symlink_to("/dev/zero")
    for path, kind in ((folder, "a folder"), (pipe, "a pipe"), (endless, "a device")):
        with pytest.raises(UserError, match=f"is {kind}, not a file"):
            parse_mapping(str(path))


def test_names_with_sql_and_quotes_are_only_data(tmp_path, warehouse) -> None:
    evil = "x'); drop table raw.tracks; --\""
    frame = tracks({"artist_name": evil, "track_name": evil}).rename({"tempo": evil})
    for name, write in (("e'vil.csv", frame.write_csv), ("e'vil.parquet", frame.write_parquet)):
        write(tmp_path / name)
        snapshot = ingest(str(tmp_path / name), {"tempo": evil}, 0.0, warehouse)
        assert raw(warehouse, snapshot.snapshot)["artist_name"].to_list() == [evil]


def test_a_source_is_not_a_pattern(tmp_path, warehouse) -> None:
    (tmp_path / "t1.csv").write_text(many(30).write_csv())
    (tmp_path / "t[1].csv").write_text(GOOD)
    assert ingest(str(tmp_path / "t[1].csv"), {}, 0.0, warehouse).rows_read == 2
    folder = tmp_path / "tempo=5"
    folder.mkdir()
    tracks({}, {}).write_parquet(folder / "t.parquet")
    read = raw(warehouse, ingest(str(folder / "t.parquet"), {}, 0.0, warehouse).snapshot)
    assert read["tempo"].to_list() == ["120.5", "120.5"]


def test_a_blank_key_is_a_missing_one(csv, warehouse) -> None:
    snapshot = ingest(csv(tracks({"key": " "}, {})), {}, 0.0, warehouse)
    typed = pl.read_parquet(warehouse.table("staging", "typed_tracks", snapshot.snapshot))
    assert typed.select("key_code", "is_key_missing").rows() == [(None, True), (1.0, False)]


@pytest.mark.parametrize("suffix", ["", ".0", "."])
def test_large_ids_keep_every_digit(suffix, csv, warehouse) -> None:
    ids = ["9007199254740992", "9007199254740993"]
    snapshot = ingest(csv(tracks(*({"instance_id": each + suffix} for each in ids))), {}, 0.0, warehouse)
    typed = pl.read_parquet(warehouse.table("staging", "typed_tracks", snapshot.snapshot))
    assert typed["track_id"].cast(pl.String).to_list() == ids


@pytest.mark.slow
def test_ids_that_are_text_give_way_to_another_column_or_to_the_row_number(csv, warehouse) -> None:
    frame = tracks({"instance_id": "4uLU6hMCjMI75M1A2tKUQC", "row": "70"}, {"instance_id": "x", "row": "71"}, row="")
    with pytest.raises(InputError, match=r"2 of 2 rows have bad values.*instance_id: not a whole number: '4uLU6h"):
        ingest(csv(frame), {}, 0.0, warehouse)
    for source, columns, ids in [(frame, "instance_id=row", [70, 71]), (frame.drop("instance_id"), "", [1, 2])]:
        snapshot = ingest(csv(source), parse_mapping(columns), 0.0, warehouse)
        typed = pl.read_parquet(warehouse.table("staging", "typed_tracks", snapshot.snapshot))
        assert typed["track_id"].to_list() == ids


def test_of_repeated_ids_the_first_sound_row_is_kept(csv, warehouse) -> None:
    frame = tracks({"instance_id": "7", "mode": "x"}, {"instance_id": "7"}, {"instance_id": "7"})
    snapshot = ingest(csv(frame), {}, 1.0, warehouse)
    assert [(line, column) for line, column, _ in rejects(warehouse, snapshot.snapshot)] == [
        (2, "mode"),
        (4, "instance_id"),
    ]


def test_parquet_columns_that_differ_only_in_case_are_refused(tmp_path, warehouse) -> None:
    tracks({}).with_columns(Tempo=pl.lit("777")).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="ignoring case"):
        ingest(str(tmp_path / "t.parquet"), {}, 0.0, warehouse)


@pytest.fixture
def http_folder(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


def test_a_url_is_read(http_folder, warehouse) -> None:
    address, folder = http_folder
    (folder / "t.csv.gz").write_bytes(gzip.compress(many(30).write_csv().encode()))
    snapshot = ingest(f"{address}/t.csv.gz?key=secret", {}, 0.0, warehouse)
    assert snapshot.rows_read == 30
    assert snapshot.source == f"{address}/t.csv.gz"
    assert list((warehouse.root / "tmp").glob("download*")) == []


def test_a_url_that_fails_is_refused_without_its_secrets(http_folder, warehouse) -> None:
    address, _ = http_folder
    with pytest.raises(InputError, match="cannot be downloaded") as refusal:
        ingest(f"{address}/nothing.csv?key=secret", {}, 0.0, warehouse)
    assert "secret" not in str(refusal.value)
    assert public_name("s3://me:pass@host/a.csv?key=secret") == "s3://host/a.csv"
    assert public_name("simplecache::http://me:pass@host/a.csv") == "simplecache::http://host/a.csv"


def test_the_same_content_is_read_once(csv, warehouse) -> None:
    source = csv(GOOD)
    first = ingest(source, {}, 0.0, warehouse)
    stored = warehouse.table("raw", "tracks", first.snapshot).stat().st_mtime_ns
    assert ingest(source, {}, 0.0, warehouse) == first
    assert warehouse.table("raw", "tracks", first.snapshot).stat().st_mtime_ns == stored


def test_the_real_file(real_file, warehouse) -> None:
    snapshot = ingest(str(real_file), {}, 0.0, warehouse)
    assert (snapshot.rows_read, snapshot.blank_rows, snapshot.rejected_rows) == (50_005, 5, 0)
    assert snapshot.is_study_file
    assert not snapshot.is_generated


def test_a_file_that_changes_while_it_is_read_is_not_taken_for_what_it_was(warehouse, csv, monkeypatch) -> None:
    path = csv(tracks({}, {}))
    original = ingesting.copy_raw

    def replaced(*arguments: object) -> None:
        csv(tracks({}, {}, {}))
        original(*arguments)

    monkeypatch.setattr(ingesting, "copy_raw", replaced)
    with pytest.raises(InputError, match="changed while it was read"):
        ingest(path, {}, 0.0, warehouse)
    monkeypatch.undo()
    assert ingest(path, {}, 0.0, warehouse).rows_read == 3


def test_a_refused_file_is_no_snapshot_and_leaves_its_rejects(warehouse, csv) -> None:
    path = csv(tracks({"popularity": "x"}, {}))
    with pytest.raises(InputError, match="1 of 2 rows have bad values"):
        ingest(path, {}, 0.4, warehouse)
    left = list(warehouse.root.rglob("*.parquet"))
    assert [file.parent.name for file in left] == ["rejects"]
    with pytest.raises(UserError, match="has no snapshot"):
        ingest(f"snapshot:{left[0].stem}", {}, 1.0, warehouse)
    taken = ingest(path, {}, 0.5, warehouse)
    assert ingest(f"snapshot:{taken.snapshot}", {}, 0.0, warehouse) == taken


@pytest.mark.slow
def test_rejects_of_a_bad_file_stand_with_their_lines(warehouse, csv) -> None:
    rows = 25_000  # more than are looked up at once
    frame = tracks(*({} for _ in range(3))).sample(rows, with_replacement=True, seed=1)
    frame = frame.with_columns(instance_id=pl.int_range(rows).cast(pl.String), popularity=pl.lit("x"), mode=pl.lit("x"))
    snapshot = ingest(csv(frame), {}, 1.0, warehouse)
    assert (snapshot.rejected_rows, snapshot.rejected_values) == (rows, 2 * rows)
    rejects = pl.read_parquet(warehouse.table("raw", "rejects", snapshot.snapshot))
    assert rejects["line"].to_list() == [line for line in range(2, rows + 2) for _ in range(2)]
    assert rejects["csv_line"].str.starts_with((pl.Series(rejects["line"] - 2)).cast(pl.String) + ",").all()
    assert rejects["column_name"].to_list() == ["mode", "popularity"] * rows


def test_of_a_file_refused_for_its_rejects_the_first_are_kept(csv, warehouse, monkeypatch) -> None:
    monkeypatch.setattr(ingesting, "SOME", 3)
    bad = [{"energy": "loud"}, {}, {"instance_id": "2"}, {"tempo": "-5", "key": "H"}, {}, {"mode": "x"}, {"key": "x"}]
    path = csv(tracks(*bad))
    with pytest.raises(
        InputError, match=r"5 of 7 rows .*The first: line 2, energy.*The first 3 rows are in"
    ) as refusal:
        ingest(path, {}, 0.5, warehouse)
    [kept] = (warehouse.root / "raw" / "rejects").glob("*.parquet")
    assert f"in {kept}." in str(refusal.value)
    first = [(2, "energy"), (4, "instance_id"), (5, "key"), (5, "tempo")]
    assert [(row["line"], row["column_name"]) for row in pq.read_table(kept).to_pylist()] == first
    snapshot = ingest(path, {}, 0.8, warehouse)
    assert (snapshot.rejected_rows, snapshot.rejected_values) == (5, 6)
    assert [(line, name) for line, name, _ in rejects(warehouse, snapshot.snapshot)] == [
        *first,
        (7, "mode"),
        (8, "key"),
    ]
    with pytest.raises(InputError, match="All of them are in"):
        ingest(path, {}, 0.5, warehouse)
