"""What values may look like: what is missing, how keys and modes are written, and what makes genres one."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.errors import InputError
from tasks.features.build import build_features
from tasks.ingest.columns import MISSING, match_columns, parse_mapping
from tasks.ingest.read import Append, ingest
from tasks.ingest.snapshots import Snapshot
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse
from tasks.training.grid import plan_cells
from tasks.training.needs import possible, required_columns
from tests.helpers.tracks import TRACK, many, tracks

AUDIO = {
    "acousticness", "danceability", "duration_ms", "energy", "instrumentalness", "key", "liveness", "loudness", "mode",
    "speechiness", "tempo", "valence",
}  # fmt: skip


def read(source: pl.DataFrame | str | Path, home: Warehouse, **options) -> tuple[Snapshot, pl.DataFrame]:
    if isinstance(source, pl.DataFrame):
        source.write_csv(home.root / "tracks.csv")
        source = home.root / "tracks.csv"
    elif isinstance(source, str):
        (home.root / "tracks.csv").write_text(source)
        source = home.root / "tracks.csv"
    snapshot = ingest(str(source), options.pop("columns", {}), 1.0, home, **options)
    return snapshot, pl.read_parquet(home.table("staging", "typed_tracks", snapshot.snapshot))


@pytest.mark.parametrize(
    ("key", "mode", "codes"),
    [
        ("C", "Major", (0, 1)), ("C#/Db", "Minor", (1, 0)), ("C♯/D♭", "maj", (1, 1)), ("Db", "min", (1, 0)),
        ("C# minor", "m", (1, 0)), ("C# minor", "", (1, 0)), ("Am", "NA", (9, 0)), ("bb", "M", (10, 1)),
        ("F-sharp major", "1", (6, 1)), ("E flat", "true", (3, 1)), ("Cb", "FALSE", (11, 0)), ("B#", "False", (0, 0)),
        ("11", "0.0", (11, 0)), ("N/A", "-", (None, None)), ("nan", "None", (None, None)), ("-1", "null", (None, None)),
        ("E minor", "Major", (None, 1)), ("C#/D", "Major", (None, 1)),
    ],
)  # fmt: skip
def test_keys_and_modes_in_every_notation(key, mode, codes, warehouse) -> None:
    _, typed = read(tracks({"key": key, "mode": mode}, {}), warehouse)
    assert typed.select("key_code", "mode_code").row(0) == codes


def test_whatever_says_that_a_value_is_missing_is_missing_in_every_column(warehouse) -> None:
    """In training as in prediction: a missing audio feature is filled, one that cannot be read is a reject."""
    texts = [*MISSING, "NaN", " n/a ", "NULL", "None"]
    snapshot, typed = read(tracks(*(dict.fromkeys(AUDIO - {"energy"}, text) for text in texts), {}), warehouse)
    assert snapshot.rejected_rows == 0
    features = [{"key": "key_code", "mode": "mode_code"}.get(name, name) for name in AUDIO - {"energy"}]
    assert typed.select(features).head(len(texts)).null_count().row(0) == (len(texts),) * 11
    assert typed["energy"].null_count() == 0
    snapshot, _ = read(tracks({"energy": "loud"}, dict.fromkeys(AUDIO, "NA"), {}), warehouse)
    rejects = pl.read_parquet(warehouse.table("raw", "rejects", snapshot.snapshot))
    assert rejects["error"].to_list() == ["not a finite number: 'loud'", "none of the twelve is there"]


@pytest.mark.slow
def test_missing_values_are_filled_in_training(warehouse) -> None:
    frame = many(400).with_columns(
        energy=pl.when(pl.int_range(400) % 9 == 0).then(pl.lit("NA")).otherwise("energy"),
        mode=pl.when(pl.int_range(400) % 7 == 0).then(pl.lit("-")).otherwise("mode"),
    )
    snapshot, _ = read(frame, warehouse)
    for protocol in ("published", "label_free"):
        tables = {row.table_name: row for row in build_features(snapshot, protocol, 5, warehouse)}
        clean = pl.read_parquet(warehouse.here(tables["features.tracks_clean"].path))
        assert clean.height == 400
        staged = pl.read_parquet(warehouse.here(tables["staging.stg_tracks"].path))
        rows = clean.join(staged.select("track_id", measured="energy"), on="track_id")
        split, genre = pl.col("split") == "train", pl.col("music_genre") == "Rap"
        mean = rows.filter(genre if protocol == "published" else split)["measured"].mean()
        filled = rows.filter(pl.col("measured").is_null() & genre)["energy"]
        assert filled.to_list() == pytest.approx([mean] * len(filled))
        assert rows.filter(pl.col("measured").is_null())["is_imputed"].all()
        assert set(clean["mode_code"]) == {0.0, 1.0}


def test_nan_null_and_booleans_of_parquet(warehouse) -> None:
    frame = many(40).with_columns(
        pl.col("energy").cast(pl.Float64), mode=pl.int_range(40) % 2 == 0, music_genre=pl.lit("Rap")
    )
    frame = frame.with_columns(energy=pl.when(pl.int_range(40) < 3).then(float("nan")).otherwise("energy"))
    frame.write_parquet(warehouse.root / "t.parquet")
    snapshot, typed = read(warehouse.root / "t.parquet", warehouse)
    assert snapshot.rejected_rows == 0
    assert typed["energy"].null_count() == 3
    assert typed["mode_code"].to_list() == [1.0, 0.0] * 20


def test_a_missing_genre_is_none_and_spellings_are_one(warehouse) -> None:
    genres = ["Rock"] * 3 + [
        "rock",
        " ROCK ",
        "Hip  Hop",
        "Hip Hop",
        "Hip Hop",
        "NA",
        "nan",
        "None",
        "[]",
        " ",
        "pop, rock",
    ]
    snapshot, typed = read(tracks(*({"music_genre": genre} for genre in genres)), warehouse)
    assert snapshot.rows_without_genre == 5
    assert typed["music_genre"].to_list() == ["Rock"] * 5 + ["Hip Hop"] * 3 + [None] * 5 + ["pop, rock"]
    notes = " ".join(snapshot.notes)
    assert "4 rows say that there is no genre: 'NA' (1), 'None' (1), '[]' (1), 'nan' (1)" in notes
    assert "'Hip  Hop' (1) for 'Hip Hop', 'ROCK' (1) for 'Rock', 'rock' (1) for 'Rock'" in notes
    assert "1 row seem to list several genres, such as 'pop, rock'" in notes
    raw = pl.read_parquet(warehouse.table("raw", "tracks", snapshot.snapshot))
    assert raw["music_genre"].to_list()[:4] == ["Rock"] * 3 + ["rock"]


def test_what_says_nothing_is_no_genre_and_one_form_of_it_is_one_genre(warehouse) -> None:
    """Lists of missing items, unknown; lists of one, other white space, other Unicode forms."""
    genres = {
        "unknown": None, "Unknown ": None, "['']": None, "[nan]": None, "[None]": None, "[NULL]": None, "('',)": None,
        "Jazz": "Jazz", "['Jazz']": "Jazz", '["jazz"]': "Jazz", "[Jazz]": "Jazz", "Jazz\t": "Jazz",
        "\u00a0JAZZ": "Jazz",
        "Caf\u00e9": "Caf\u00e9", "Cafe\u0301": "Caf\u00e9", "['Pop', 'Rock']": "['Pop', 'Rock']",
        "Rock 'n' Roll": "Rock 'n' Roll",
    }  # fmt: skip
    rows = [*({"music_genre": genre} for genre in genres), *({"music_genre": one} for one in ("Jazz", "Caf\u00e9"))]
    _, typed = read(tracks(*rows), warehouse)
    assert dict(zip(genres, typed["music_genre"].to_list(), strict=False)) == genres


def test_lists_of_parquet_are_labels(warehouse) -> None:
    table = many(4).to_arrow().drop(["music_genre"])
    table = table.append_column("music_genre", pa.array([["pop", "rock"], ["pop"], [], None]))
    pq.write_table(table, warehouse.root / "t.parquet")
    snapshot, typed = read(warehouse.root / "t.parquet", warehouse)
    assert typed["music_genre"].to_list() == ["[pop, rock]", "pop", None, None]
    assert snapshot.rows_without_genre == 2


def test_appended_genres_are_spelled_as_before(warehouse) -> None:
    base, _ = read(tracks(*({"music_genre": "rock"} for _ in range(2)), {"music_genre": "Pop"}), warehouse)
    more = tracks(*({"music_genre": genre} for genre in ["Rock", "Rock", "ROCK", "Soul"])).with_columns(
        instance_id=pl.Series(["11", "12", "13", "14"])
    )
    _, typed = read(more, warehouse, append=Append(base.snapshot))
    assert typed["music_genre"].to_list() == ["rock"] * 3 + ["Soul"]


def test_names_that_differ_in_case_and_punctuation() -> None:
    found = ["Track Name", "DURATION-MS", "energy", "Energy", "Music.Genre", "Loudness (dB)"]
    matched = match_columns(found, {}, "t.csv")
    places = {ours: at for ours, at in matched.positions.items() if at is not None}
    assert places == {"track_name": 0, "duration_ms": 1, "energy": 2, "music_genre": 4}
    assert "'DURATION-MS' for duration_ms" in (matched.note or "")
    assert match_columns(list(TRACK), {}, "t.csv").note is None
    with pytest.raises(InputError, match="columns 'Tempo' and 'TEMPO' could each be 'tempo'"):
        match_columns(["Tempo", "TEMPO"], {}, "t.csv")
    mapping = parse_mapping("energy=Drive")
    assert match_columns(["drive", "Energy"], mapping, "t.csv").positions["energy"] == 0
    with pytest.raises(InputError, match=r"column 'Drive' is missing\. Found: Energy"):
        match_columns(["Energy"], mapping, "t.csv")


@pytest.mark.slow
def test_a_title_above_the_header(warehouse) -> None:
    plain = tracks({}, {"energy": "loud"}).write_csv()
    for title in ("My songs\n", "My songs" + "," * 17 + "\n", "\nMy songs, 2026\n"):
        snapshot, typed = read(title + plain, warehouse)
        n = title.count("\n")
        assert typed.height == 2
        assert any(f"line {n + 1} for the header" in note for note in snapshot.notes)
        rejects = pl.read_parquet(warehouse.table("raw", "rejects", snapshot.snapshot))
        assert rejects["line"].to_list() == [3 + n]


def test_only_what_cells_use_is_required() -> None:
    def required(*models: str, sets: list[str] | None = None) -> set[str]:
        return set(required_columns(plan_cells(["published"], "smoke", list(models), sets or [], [42])))

    assert required("logistic_regression", "linear") == AUDIO
    five = {"acousticness", "danceability", "energy", "valence", "tempo"}
    assert required("logistic_regression", "linear", sets=["core_audio"]) == five
    assert required("linear", sets=["core_audio"]) == five | {"popularity"}
    assert required("logistic_regression", sets=["pca"]) == AUDIO | {"music_genre"}
    assert required("multitask", sets=["all"]) == AUDIO | {"music_genre", "popularity"}


def test_a_target_that_is_not_there_leaves_its_task_out(warehouse) -> None:
    cells = plan_cells(["label_free"], "smoke", ["logistic_regression", "linear", "multitask"], ["all"], [42])
    frame = many(400).drop("popularity", "artist_name")
    snapshot, _ = read(frame, warehouse)
    assert snapshot.rejected_rows == 0
    assert {cell.model for cell in possible(cells, snapshot)} == {"logistic_regression"}
    assert any("no column popularity with values: genre alone" in note for note in snapshot.notes)
    for protocol in ("published", "label_free"):
        assert build_features(snapshot, protocol, 5, warehouse)
    with pytest.raises(InputError, match=r"cold_start is not possible: tracks\.csv has no artists"):
        build_features(snapshot, "cold_start", 5, warehouse)
    with pytest.raises(InputError, match=r"column 'popularity' is missing\. Found: instance_id"):
        read(frame, warehouse, required=["popularity"])
    with pytest.raises(InputError, match="column 'popularity' is missing"):
        ingest(f"snapshot:{snapshot.snapshot}", {}, 1.0, warehouse, required=["popularity"])
    with pytest.raises(InputError, match="columns 'popularity', 'music_genre' are missing"):
        read(frame.drop("music_genre"), warehouse)


@pytest.mark.slow
def test_tracks_without_genres_are_kept_for_popularity(warehouse) -> None:
    frame = many(300).with_columns(music_genre=pl.lit("NA"))
    snapshot, _ = read(frame, warehouse)
    cells = plan_cells(["label_free"], "smoke", ["logistic_regression", "linear"], ["all"], [42])
    assert {cell.model for cell in possible(cells, snapshot)} == {"linear"}
    for protocol in ("published", "label_free", "cold_start"):
        tables = {row.table_name: row for row in build_features(snapshot, protocol, 5, warehouse)}
        assert tables["staging.stg_tracks"].rows == tables["features.tracks_std"].rows == 300
        with duck.workspace(warehouse.root / "tmp") as connection:
            duck.view(connection, "staging.stg_tracks", warehouse.here(tables["staging.stg_tracks"].path))
            counted = connection.execute("select count(music_genre), count(popularity) from staging.stg_tracks")
            assert counted.fetchall() == [(0, 300)]


def test_what_is_appended_has_the_same_columns(warehouse) -> None:
    base, _ = read(many(60), warehouse)
    more = many(20).with_columns(instance_id=pl.int_range(1000, 1020).cast(pl.String))
    with pytest.raises(InputError, match="lacks valence, which the tracks that it is appended to have"):
        read(more.drop("valence"), warehouse, append=Append(base.snapshot))
    bare, _ = read(many(60).drop("valence"), warehouse)
    with pytest.raises(InputError, match="has valence, which the tracks that it is appended to have no values of"):
        read(more, warehouse, append=Append(bare.snapshot))
