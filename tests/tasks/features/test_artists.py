"""Tracks that share any artist stay together, however a cell names several; what is right is known by construction."""

from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flows.preparing import Preparation
from tasks.errors import CheckError, ProtocolError, UserError
from tasks.features import artists, build
from tasks.features.append import left_out
from tasks.features.build import build_features
from tasks.features.registry import BuiltTable
from tasks.ingest.read import Append, ingest
from tasks.ingest.snapshots import Snapshot
from tasks.specs import protocol_named
from tasks.storage.warehouse import Warehouse
from tests.helpers.amounts import mostly_long
from tests.helpers.tracks import many

pytestmark = pytest.mark.slow

NAMES = [
    "Guns N' Roses",
    "Tyler, The Creator",
    'Say "Hi"',
    "AC/DC",
    "Sigur Rós",
    "C & C",
    "Chloe x Halle",
]
LISTS = {
    "python": str,
    "json": json.dumps,
    "numpy": lambda names: str(np.array(names, dtype=object)),
    "tuple": lambda names: str(tuple(names)),
    "semicolons": ";".join,
    "spaced semicolons": " ; ".join,
    "careless list": lambda names: "['" + "', '".join(names) + "']",
    "feat.": " feat. ".join,
    "FT": " FT ".join,
    "brackets": lambda names: names[0] + "".join(f" (featuring {name})" for name in names[1:]),
    "case and spaces": lambda names: ";".join(
        f"  {name.upper() if len(names) % 2 else name.lower()} " for name in names
    ),
}


def credited(n: int = 600) -> list[list[str]]:
    """The artists of n tracks: one to three of the five of a circle, who never meet another circle's."""
    random = np.random.default_rng(7)
    circles = [[f"{NAMES[circle % len(NAMES)]} {circle * 5 + at}" for at in range(5)] for circle in range(n // 6)]
    rows = random.integers(0, len(circles), n)
    return [random.choice(circles[row], random.integers(1, 4), replace=False).tolist() for row in rows]


def tracks_by(artists: pl.Series, start: int = 0) -> pl.DataFrame:
    """Tracks that nothing but artists links, numbered from `start`."""
    frame = many(start + len(artists))[start:].with_columns(artist_name=artists)
    numbers = pl.int_range(start, start + pl.len())
    return frame.with_columns(instance_id=numbers.cast(pl.String), acousticness=(numbers / 10_000).cast(pl.String))


def read(texts: list[str], warehouse: Warehouse, append: Append | None = None, start: int = 0) -> Snapshot:
    path = warehouse.root / f"tracks{start}.csv"
    tracks_by(pl.Series(texts), start).write_csv(path)
    return ingest(str(path), {}, 0.0, warehouse, append)


def table(name: str, built: list[BuiltTable], warehouse: Warehouse) -> pl.DataFrame:
    row = next(row for row in built if row.table_name == f"features.{name}")
    return pl.concat([pl.read_parquet(part) for part in warehouse.parts(row.path)]).sort("track_id")


def sides(named: list[list[str]], built: list[BuiltTable], warehouse: Warehouse) -> dict[str, set[str]]:
    """By artist, the splits that tracks of that one are in. Args: named: the artists of each track, by track_id."""
    found: dict[str, set[str]] = {}
    split = table("split_assignment", built, warehouse)
    assert split.height == len(named)
    for names, side in zip(named, split["split"], strict=True):
        for name in names:
            found.setdefault(name, set()).add(side)
    return found


@pytest.mark.parametrize("notation", LISTS.values(), ids=list(LISTS))
def test_no_artist_is_on_two_sides(notation, warehouse) -> None:
    named = credited()
    built = build_features(read([notation(names) for names in named], warehouse), "cold_start", 20, warehouse)
    assert {len(of) for of in sides(named, built, warehouse).values()} == {1}
    known = {artist.lower() for names in named for artist in names}
    assert set(table("track_artists", built, warehouse)["artist"]) == known


def test_real_lists_of_a_parquet_file(warehouse) -> None:
    named = credited()
    path = warehouse.root / "lists.parquet"
    tracks_by(pl.Series(named)).write_parquet(path)
    built = build_features(ingest(str(path), {}, 0.0, warehouse), "cold_start", 20, warehouse)
    assert {len(of) for of in sides(named, built, warehouse).values()} == {1}
    pairs = {(track, name.lower()) for track, names in enumerate(named) for name in names}
    assert set(table("track_artists", built, warehouse).select("track_id", "artist").iter_rows()) == pairs


SPELT = {
    "A & feat. B": "a|b", "A + ft. B": "a|b", "A / feat. B": "a|b", "A | feat. B": "a|b", "A: feat. B": "a|b",
    "A — feat. B": "a|b", "A - featuring B": "a|b", "A w/ feat. B": "a|b", "A/feat. B": "a|b",
    "A \uff08feat. B\uff09": "a|b", "A 【feat. B】": "a|b", "A {feat. B}": "a|b", "A <feat. B>": "a|b",
    "A [feat. B]": "a|b",
    "A (feat. B) [Live]": "a|b", "A (feat. B) & C": "a|b|c", "A ;feat. B": "a|b", "A; ft. B": "a|b",
    "A feat. (B)": "a|b", 'A feat. "B"': "a|b", "A feat. B (C)": "a|b (c)",
    "[['A'], ['B']]": "a|b", '[["A","B"]]': "a|b", "['A'];['B']": "a|b", """["O'Neal" None 'B']""": "b|o'neal",
    "[None 'B' nan]": "b",
    "Ft. Worth": "ft. worth", "Daft Punk": "daft punk", "(G)I-DLE": "(g)i-dle", "+44": "+44", "[bsd.u]": "bsd.u",
    "Artist [Live]": "artist [live]", "AC/DC; Godspeed You! Black Emperor": "ac/dc|godspeed you! black emperor",
}  # fmt: skip


def test_ways_to_name_a_guest(warehouse) -> None:
    """Each text's artists; the rest of the tracks is by others."""
    texts = [*SPELT, *(f"Artist {at}" for at in range(300 - len(SPELT)))]
    found = table("track_artists", build_features(read(texts, warehouse), "cold_start", 20, warehouse), warehouse)
    by_track = dict(found.group_by("track_id").agg(pl.col("artist").sort().str.join("|")).iter_rows())
    assert {text: by_track[at] for at, text in enumerate(SPELT)} == SPELT


def test_nobody_at_all_is_no_column_of_artists(warehouse) -> None:
    texts = ["unknown", "Various Artists", "[]"] * 100
    with pytest.raises(ProtocolError, match=r"cold_start is not possible: .* has no artists"):
        build_features(read(texts, warehouse), "cold_start", 20, warehouse)


NOBODY = ["", " ", "nan", "None", "NA", "n/a", "NULL", "unknown", "Unknown Artist", "[]", "['Various Artists']"]
NOBODY += ["VARIOUS ARTISTS", "various", "empty_field", "-", "?", "<NA>", "nan;Unknown", '[""]', "[None]"]


@pytest.mark.parametrize("separators", [[], ["/", ", "]], ids=["none", "with slashes"])
def test_nobody_links_nothing(separators, warehouse) -> None:
    texts = [NOBODY[at % len(NOBODY)] if at % 2 else f"Artist {at % 100}" for at in range(600)]
    built = build_features(read(texts, warehouse), "cold_start", 20, warehouse, separators)
    found = table("track_artists", built, warehouse)
    assert set(found["artist"]) == {f"artist {at}" for at in range(0, 100, 2)}
    groups = table("track_groups", built, warehouse)
    alone = groups.filter(~pl.col("track_id").is_in(found["track_id"].implode()))
    assert alone.height == 300
    assert (alone["group_id"] == alone["recording_id"]).all()


def test_names_stay_whole_unless_told(warehouse) -> None:
    named = [["Earth, Wind & Fire"], ["AC/DC"], ["Little Feat"], ["311"], ["[ALEXANDROS]"], ["!!!"], ["Feature"]] * 100
    built = build_features(read([names[0] for names in named], warehouse), "cold_start", 20, warehouse)
    whole = {"earth, wind & fire", "ac/dc", "little feat", "311", "alexandros", "!!!", "feature"}
    assert set(table("track_artists", built, warehouse)["artist"]) == whole


@pytest.mark.parametrize(
    ("given", "written"),
    mostly_long([(", ", ", "), ("&", " & "), ("X", " x "), ("/", "/"), (" and ", " AND ")], ("&", " & "), ("X", " x ")),
)
def test_separators_that_may_be_part_of_a_name_are_added(given, written, warehouse) -> None:
    named = [
        [name.translate(str.maketrans("/,&", "   ")).replace(" x ", " ") for name in names] for names in credited()
    ]
    snapshot = read([written.join(names) for names in named], warehouse)
    before, after = (build_features(snapshot, "cold_start", 20, warehouse, some) for some in ([], [given]))
    assert max(map(len, sides(named, before, warehouse).values())) > 1
    assert {len(of) for of in sides(named, after, warehouse).values()} == {1}
    versions = [{row.table_name: row.version for row in built} for built in (before, after)]
    changed = {name for name in versions[0] if versions[0][name] != versions[1][name]}
    assert {"features.track_artists", "features.split_assignment"} <= changed
    assert not changed & {"staging.stg_tracks", "features.genre_mapping", "features.track_links"}
    published = [build_features(snapshot, "published", 20, warehouse, some) for some in ([], [given])]
    assert [row.version for row in published[0]] == [row.version for row in published[1]]


def test_separators_as_they_are_used() -> None:
    assert artists.normal_separators(["/", "X", ", ", " Vs. ", "x"]) == [" vs. ", " x ", ", ", "/"]
    with pytest.raises(UserError, match="--artist-separators: one is blank"):
        artists.normal_separators(["/", " "])


def test_what_looks_like_several_artists_is_told_once_and_not_where_it_is_a_name(warehouse, capsys) -> None:
    def told(texts: list[str], separators: list[str]) -> list[str]:
        source = str(warehouse.root / f"told{len(texts)}.csv")
        tracks_by(pl.Series(texts)).write_csv(source)
        options = {"artist_separators": separators}
        Preparation.of(source, "", "cold_start", str(warehouse.root), 1.0, 20, **options).before_flow()
        return [line for line in capsys.readouterr().err.splitlines() if "--artist-separators" in line]

    named = [f"Singer {at % 50}" if at % 2 else f"Singer {at % 50}, Singer {at % 50 + 1}" for at in range(600)]
    [line] = told(named, [])
    assert line.startswith("artist_name: 25 of 25 names such as 'singer 0, singer 1' contain another artist's name (")
    assert '--artist-separators ", ":' in line
    assert told(named, [", "]) == []
    bands = [f"Duo {at % 40} & Sons" if at % 2 else f"Singer {at % 50}" for at in range(602)]
    assert told(bands, []) == []


def test_a_probe_leaves_out_what_shares_any_artist_with_a_test_row(warehouse) -> None:
    named = [names if at % 3 else [] for at, names in enumerate(credited())]
    snapshot = read([str(names) for names in named], warehouse)
    whole, apart, any_of_them = (
        table("split_assignment", build_features(snapshot, name, 20, warehouse), warehouse)["split"].to_list()
        for name in ("label_free", "artists_apart", "artists_any")
    )
    tested = {name for names, split in zip(named, whole, strict=True) if split == "test" for name in names}
    expected = [
        "unused" if of == "train" and tested & set(names) else of for names, of in zip(named, whole, strict=True)
    ]
    assert apart == expected
    assert 0 < expected.count("unused") == any_of_them.count("unused") < whole.count("train")


def test_appended_tracks_bring_no_artist_of_the_other_sides_into_training(warehouse) -> None:
    named = credited(900)
    texts = [str(names) if at % 2 else " feat. ".join(names).upper() for at, names in enumerate(named)]
    base = read(texts[:600], warehouse)
    more = read(texts[600:], warehouse, Append(base.snapshot, "kept"), start=600)
    for protocol in ("cold_start", "artists_apart"):
        built = build_features(more, protocol, 20, warehouse)
        split = table("split_assignment", built, warehouse)["split"].to_list()
        others = ("val", "test") if protocol == "cold_start" else ("test",)
        kept = {name for names, of in zip(named, split, strict=True) if of in others for name in names}
        new = list(zip(named, split, strict=True))[600:]
        assert {of for _, of in new} == {"train", "unused"}
        assert all(not kept & set(names) for names, of in new if of == "train")
        assert all(kept & set(names) for names, of in new if of == "unused") or protocol == "cold_start"


def test_where_chains_of_artists_link_all_tracks_those_between_sides_are_left_out(warehouse) -> None:
    random = np.random.default_rng(1)
    named = [[f"Singer {of}" for of in random.choice(60, random.integers(1, 3), replace=False)] for _ in range(600)]
    built = build_features(read([";".join(names) for names in named], warehouse), "cold_start", 20, warehouse)
    assert table("track_groups", built, warehouse)["group_id"].n_unique() == 1
    assert max(len(of - {"unused"}) for of in sides(named, built, warehouse).values()) == 1
    split = table("split_assignment", built, warehouse)
    counts = dict(split["split"].value_counts().iter_rows())
    assert counts["train"] > 300 and counts["val"] > 30 and counts["test"] > 30
    for _, part in split.group_by("split"):
        assert sorted(part["position"]) == list(range(part.height))
    [line] = left_out(built, warehouse)
    assert line.startswith(f"cold_start: {counts['unused']} of 600 tracks have artists of several sides of the split")


def test_the_checks_see_artists_within_a_cell(warehouse, monkeypatch) -> None:
    snapshot = read([";".join(names) for names in credited()], warehouse)
    wrong = dataclasses.replace(protocol_named("cold_start"), checks=("groups_apart",), split="study")
    monkeypatch.setattr(build, "protocol_named", lambda _: wrong)
    with pytest.raises(CheckError, match=r"checks/groups_apart\.sql: kind artist"):
        build_features(snapshot, "cold_start", 20, warehouse)


def test_a_real_catalogue_with_lists_of_artists(catalogues: Path, warehouse) -> None:
    ours = {"artist_name": "artists names", "track_name": "track name", "popularity": "track popularity"}
    snapshot = ingest(str(catalogues / "artist_lists.csv"), ours | {"music_genre": "genre"}, 0.5, warehouse)
    built = build_features(snapshot, "cold_start", 20, warehouse)
    split = table("split_assignment", built, warehouse)
    frame = pl.read_csv(catalogues / "artist_lists.csv", infer_schema=False)
    found: dict[str, set[str]] = {}
    for track, side in split.select("track_id", "split").iter_rows():
        for name in ast.literal_eval(frame["artists names"][track - 1]):
            found.setdefault(name.strip().lower(), set()).add(side)
    assert len(found) > 5_000
    assert [name for name, of in found.items() if len(of) > 1 and "various" not in name] == []
