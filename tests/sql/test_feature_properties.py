"""What the feature tables' SELECTs and the checks must say of any tracks, however they are split."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.features import tables
from tasks.specs import AUDIO_FEATURES, PROTOCOLS
from tasks.storage import duck
from tests.helpers.amounts import amount
from tests.helpers.untrusted import UNTRUSTED

MAY_BE_MISSING = {"tempo": "is_tempo_missing", "duration_ms": "is_duration_missing", "key_code": "is_key_missing"}
GENRES = np.array(["Jazz", "Rap", *UNTRUSTED])
SPLITS = np.array(["train", "val", "test"])


@dataclass(frozen=True)
class Case:
    """Random tracks and a random split."""

    tracks: pl.DataFrame
    split: pl.DataFrame
    random: np.random.Generator


@st.composite
def split_tracks(draw) -> Case:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(20, 300))
    missing = draw(st.sampled_from([0.0, 0.1, 0.6, 1.0]))
    scale = 10.0 ** random.integers(-3, 7, len(AUDIO_FEATURES))
    values = {name: random.normal(random.normal() * by, by, n) for name, by in zip(AUDIO_FEATURES, scale, strict=True)}
    values |= {"key_code": random.integers(0, 12, n).astype(float), "mode_code": random.integers(0, 2, n).astype(float)}
    tracks = pl.DataFrame(
        {
            "track_id": random.permutation(10 * n)[:n],
            "row_number": np.arange(1, n + 1),
            **values,
            "popularity": random.integers(0, 101, n).astype(float),
            "music_genre": random.choice(GENRES[: draw(st.integers(1, len(GENRES)))], n),
        }
    )
    for name, flag in MAY_BE_MISSING.items():
        tracks = tracks.with_columns(pl.Series(flag, random.random(n) < missing))
        tracks = tracks.with_columns(pl.when(flag).then(None).otherwise(name).alias(name))
    splits = np.concatenate([["train"] * 2, random.choice(SPLITS, n - 2)])
    split = tracks.select("track_id").with_columns(
        pl.lit("p").alias("protocol"), pl.Series("split", random.permutation(splits)), position=pl.int_range(pl.len())
    )
    return Case(tracks, split, random)


def store(connection: duckdb.DuckDBPyConnection, name: str, frame: pl.DataFrame) -> None:
    connection.register("given", frame.to_arrow())
    connection.execute(f"create or replace table {name} as from given")
    connection.unregister("given")


def make(connection: duckdb.DuckDBPyConnection, name: str, select: str | None = None) -> pl.DataFrame:
    """The table that a SELECT makes of those that are there, kept for those that follow."""
    path = select or name.replace(".", "/")
    sql = duck.render(path, **duck.dynamic_columns(path, connection))
    values = duck.bound(duck.source(path), {"protocol": "p"})
    connection.execute(f"create or replace table {name} as {sql}", values)
    return connection.sql(f"from {name}").pl()


def found(connection: duckdb.DuckDBPyConnection, check: str) -> list[tuple]:
    path = f"checks/{check}"
    return connection.execute(duck.render(path, **duck.dynamic_columns(path, connection))).fetchall()


def prepare(connection: duckdb.DuckDBPyConnection, of: Case, fill: str) -> dict[str, pl.DataFrame]:
    store(connection, "staging.stg_tracks", of.tracks)
    store(connection, "features.split_assignment", of.split)
    return {
        "mapping": make(connection, "features.genre_mapping"),
        "fill": make(connection, "features.fill_values", f"protocols/{fill}/fill_values"),
        "clean": make(connection, "features.tracks_clean"),
        "one_hot": make(connection, "features.tracks_one_hot"),
        "scaling": make(connection, "features.scaling"),
        "std": make(connection, "features.tracks_std"),
        "multitask": make(connection, "features.tracks_multitask"),
    }


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    with duck.connect() as connection:
        yield connection


@pytest.mark.slow
@given(of=split_tracks(), fill=st.sampled_from(["published", "label_free"]))
@settings(deadline=None, max_examples=amount(8, 40))
def test_every_track_is_prepared_once_and_known_values_stay(connection, of, fill) -> None:
    made = prepare(connection, of, fill)
    tracks = of.tracks.sort("track_id")
    for name in ("clean", "one_hot", "std", "multitask"):
        assert made[name].sort("track_id")["track_id"].equals(tracks["track_id"])
    clean = made["clean"].sort("track_id")
    for name in AUDIO_FEATURES:
        known = tracks[name].is_not_null()
        expected = tracks[name].filter(known).round(3) if name == "tempo" else tracks[name].filter(known)
        np.testing.assert_allclose(clean[name].filter(known), expected, rtol=0, atol=1e-9)
        assert clean[name].null_count() == 0
    is_filled = [pl.col(name).is_null() & (pl.col(name).count() > 0) for name in AUDIO_FEATURES]
    flags = tracks.select(pl.any_horizontal(is_filled).alias("is_imputed"))["is_imputed"]
    assert clean["is_imputed"].equals(flags)
    assert found(connection, "one_split") == []
    assert found(connection, "finite") == []


@pytest.mark.slow
@given(of=split_tracks())
@settings(deadline=None, max_examples=amount(8, 40))
def test_label_free_values_depend_on_training_rows_alone_and_on_no_genre(connection, of) -> None:
    made = prepare(connection, of, "label_free")
    assert found(connection, "labels_unused") == []
    for name, flag in MAY_BE_MISSING.items():
        filled = made["clean"].join(of.tracks.select("track_id", flag), on="track_id").filter(flag)[name]
        assert filled.n_unique() <= 1
    is_train = of.split["split"] == "train"
    others = {name: pl.when(is_train).then(name).otherwise(pl.col(name) * 3 + 1).alias(name) for name in AUDIO_FEATURES}
    genres = pl.Series("music_genre", of.random.permutation(of.tracks["music_genre"].to_numpy()))
    changed = Case(of.tracks.with_columns(*others.values(), genres, popularity=pl.lit(0.0)), of.split, of.random)
    again = prepare(connection, changed, "label_free")
    assert again["fill"].equals(made["fill"])
    assert again["scaling"].equals(made["scaling"])


@pytest.mark.slow
@given(of=split_tracks())
@settings(deadline=None, max_examples=amount(8, 40))
def test_training_z_scores_have_mean_0_and_population_sd_1(connection, of) -> None:
    std = prepare(connection, of, "label_free")["std"].filter(split="train")
    for name in AUDIO_FEATURES:
        clean = connection.sql(f"select {name} from features.tracks_clean where split = 'train'").pl()[name]
        spread = clean.std(ddof=0)
        precision = 1e-12 * (1 + abs(clean.mean()) / spread) if spread else 0.0
        assert std[name].mean() == pytest.approx(0.0, abs=1e-9 + precision)
        assert std[name].std(ddof=0) == pytest.approx(1.0 if spread else 0.0, abs=1e-9 + precision)


@pytest.mark.slow
@given(of=split_tracks())
@settings(deadline=None, max_examples=amount(8, 40))
def test_one_hot_rows_are_the_genre_and_sum_to_1(connection, of) -> None:
    made = prepare(connection, of, "published")
    mapping = dict(made["mapping"].select("column_name", "music_genre").iter_rows())
    assert sorted(mapping.values()) == sorted(set(of.tracks["music_genre"]))
    assert made["mapping"].sort("genre_id")["music_genre"].to_list() == sorted(mapping.values(), key=str.encode)
    genre = of.tracks.sort("track_id")["music_genre"]
    for table in ("one_hot", "multitask"):
        columns = made[table].sort("track_id").select(list(mapping))
        assert (columns.sum_horizontal() == 1).all()
        for column, name in mapping.items():
            assert (columns[column] == (genre == name)).all()


@pytest.mark.slow
@given(of=split_tracks(), fill=st.sampled_from(["published", "label_free"]))
@settings(deadline=None, max_examples=amount(5, 20))
def test_the_order_of_rows_changes_no_value(connection, of, fill) -> None:
    made = prepare(connection, of, fill)
    order = of.random.permutation(of.tracks.height)
    turned = prepare(connection, Case(of.tracks[order], of.split[of.random.permutation(order)], of.random), fill)
    for name, frame in made.items():
        keys = [column for column in ("track_id", "genre_id", "feature_name", "statistic", "genre") if column in frame]
        one, other = frame.sort(keys), turned[name].sort(keys)
        numbers = [column for column, kind in one.schema.items() if kind == pl.Float64]
        assert one.drop(numbers).equals(other.drop(numbers))
        np.testing.assert_allclose(
            one.select(numbers), other.select(numbers), rtol=1e-9, atol=1e-3 if name != "std" else 1e-6
        )


@given(of=split_tracks(), n_artists=st.integers(1, 400), n_recordings=st.integers(1, 400))
@settings(deadline=None, max_examples=amount(12, 60))
def test_the_checks_of_groups_name_exactly_what_is_on_several_sides(connection, of, n_artists, n_recordings) -> None:
    n = of.tracks.height
    some = of.random.integers(0, n, int(1.5 * n))  # tracks of no artist, of one and of several
    links = {
        "artist": pl.DataFrame({"track_id": some, "artist_id": of.random.integers(0, n_artists, len(some))})
        .with_columns(track_id=of.tracks["track_id"].gather(some))
        .unique(),
        "recording": of.tracks.select("track_id").with_columns(
            pl.Series("recording_id", of.random.integers(0, n_recordings, n))
        ),
    }
    store(connection, "features.split_assignment", of.split)
    store(connection, "features.track_artists", links["artist"])
    store(connection, "features.track_groups", links["recording"])
    sides: dict[tuple[str, int], set[str]] = {}
    for kind, frame in links.items():
        for row in frame.join(of.split, on="track_id").to_dicts():
            sides.setdefault((kind, row[f"{kind}_id"]), set()).add(row["split"])
    apart = {(kind, number) for kind, number, _ in found(connection, "groups_apart")}
    assert apart == {key for key, splits in sides.items() if len(splits) > 1}
    for kind in ("artist", "recording"):
        shared = {
            number for (of_kind, number), splits in sides.items() if of_kind == kind and {"train", "test"} <= splits
        }
        assert {number for (number,) in found(connection, f"{kind}s_apart")} == shared


@given(of=split_tracks(), lost=st.sets(st.integers(0, 19)), twice=st.sets(st.integers(0, 19)))
@settings(deadline=None, max_examples=amount(6, 30))
def test_one_split_names_exactly_the_tracks_that_are_lost_or_doubled(connection, of, lost, twice) -> None:
    store(connection, "staging.stg_tracks", of.tracks)
    rows = [row for row in range(of.split.height) if row not in lost] + sorted(twice)
    store(connection, "features.split_assignment", of.split[rows])
    counts = {track: rows.count(row) for row, track in enumerate(of.split["track_id"])}
    assert dict(found(connection, "one_split")) == {track: n for track, n in counts.items() if n != 1}


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 12), st.frozensets(st.integers(0, 9), max_size=3)), min_size=1, max_size=40))
@settings(deadline=None)
def test_groups_are_the_connected_components(connection, links) -> None:
    recordings, artists = zip(*links, strict=True)
    recording = [recordings.index(name) for name in recordings]  # as in features.track_links: the lowest track_id
    named = [(at, name) for at, of in enumerate(artists) for name in of]
    tracks = {"track_id": range(len(links)), "recording_id": recording, "content_hash": recording}
    store(connection, "features.track_links", pl.DataFrame(tracks, schema=dict.fromkeys(tracks, pl.Int64)))
    schema = {"track_id": pl.Int64, "artist_id": pl.Int64}
    store(connection, "features.track_artists", pl.DataFrame(named, schema=schema, orient="row"))
    pairs = duck.render("features/shared_recordings")
    groups = tables.artist_groups(connection, pairs, PROTOCOLS["cold_start"])
    store(connection, "features.artist_groups", pl.from_arrow(groups))
    group = make(connection, "features.track_groups").sort("track_id")["group_id"].to_list()

    reached = list(range(len(links)))  # the plain way: join until nothing changes
    changed = True
    while changed:
        changed = False
        for i, j in itertools.product(range(len(links)), repeat=2):
            is_linked = recording[i] == recording[j] or artists[i] & artists[j]
            if is_linked and reached[i] != reached[j]:
                reached[i] = reached[j] = min(reached[i], reached[j])
                changed = True
    assert group == [min(recording[j] for j in range(len(links)) if reached[j] == root) for root in reached]
