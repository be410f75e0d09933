"""Units: what looks like another scale is told with what converts it, and nothing is converted unasked."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tasks.errors import InputError, UserError
from tasks.ingest.read import Append, ingest
from tasks.ingest.snapshots import Snapshot
from tasks.ingest.units import SCALES, doubt_messages, doubts, look_at, parse_units, unit_of
from tasks.storage.warehouse import Warehouse
from tests.helpers.tracks import many

N = 200


def read(frame: pl.DataFrame, home: Warehouse, units: str = "", append: Append | None = None) -> Snapshot:
    frame.write_csv(home.root / "tracks.csv")
    return ingest(str(home.root / "tracks.csv"), {}, 1.0, home, append, parse_units(units))


def typed(snapshot: Snapshot, home: Warehouse) -> pl.DataFrame:
    return pl.read_parquet(home.table("staging", "typed_tracks", snapshot.parts[-1]))


def altered(column: str, number: pl.Expr, frame: pl.DataFrame | None = None) -> pl.DataFrame:
    frame = many(N) if frame is None else frame
    return frame.with_columns(number.alias(column).cast(pl.String))


def column(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Float64)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "number", "unit"),
    [
        ("energy", column("energy") * 100, "percent"),
        ("danceability", column("danceability") * 1000, "per_mille"),
        ("duration_ms", column("duration_ms") / 1000, "seconds"),
        ("duration_ms", column("duration_ms") / 60_000, "minutes"),
        ("duration_ms", column("duration_ms") * 1000, "microseconds"),
        ("loudness", -column("loudness"), "negated"),
        ("tempo", column("tempo") / 60, "per_second"),
        ("popularity", column("popularity") / 100, "fraction"),
    ],
)
def test_another_unit_is_told_and_converted_if_asked(name, number, unit, warehouse) -> None:
    frame = many(N).filter(pl.col("tempo") != "?", ~pl.col("duration_ms").str.starts_with("-"))
    right = typed(read(frame, warehouse), warehouse)
    scaled = altered(name, number, frame)
    snapshot = read(scaled, warehouse)
    assert snapshot.scales == (f"{name}={unit}",)
    [line] = snapshot.notes
    assert f"{name} (" in line
    assert f"--units {name}={unit}" in line
    assert not typed(snapshot, warehouse)[name].equals(right[name])  # nothing is converted unasked
    converted = read(scaled, warehouse, f"{name}={unit}")
    assert converted.scales == ()
    assert converted.snapshot != snapshot.snapshot
    assert (typed(converted, warehouse)[name] - right[name]).abs().max() < 1e-6 * right[name].abs().max()


def test_what_is_scaled_to_one_is_converted_by_its_range(warehouse) -> None:
    scaled = altered("loudness", (column("loudness") + 60) / 60).filter(pl.col("loudness").cast(pl.Float64) < 1)
    snapshot = read(scaled, warehouse)
    assert any("loudness (" in line and "loudness=LOW..HIGH" in line for line in snapshot.notes)
    converted = read(scaled, warehouse, "loudness=-60..0")
    assert typed(converted, warehouse)["loudness"].to_list() == pytest.approx(
        many(N)["loudness"].cast(pl.Float64).filter(many(N)["loudness"].cast(pl.Float64) < 0).to_list()
    )


def test_units_mixed_within_a_column_are_recognised(warehouse) -> None:
    half = pl.int_range(pl.len()) % 2 == 0
    mixed = altered("energy", pl.when(half).then(column("energy") * 100).otherwise(column("energy")))
    [line] = read(mixed, warehouse).notes
    assert "Only part of the rows are" in line
    assert "--units" not in line


def test_fractions_are_told_together(warehouse) -> None:
    """Half of the rows in percent, those of columns that are mostly near 0, too; one row; and what is neither."""
    fractions = [name for name, scale in SCALES.items() if scale.high == 1]
    is_percent = pl.int_range(pl.len()) % 2 == 0
    mixed = many(N).with_columns(
        (column(name) * pl.when(is_percent).then(100).otherwise(1)).cast(pl.String) for name in fractions
    )
    assert {unit for unit in read(mixed, warehouse).scales if unit} == {f"{name}=percent in part" for name in fractions}
    one = {
        name: look_at(name, np.array([value]))
        for name, value in (("acousticness", 98.4), ("energy", 61.0), ("speechiness", 4.2))
    }
    assert {doubt.option for doubt in doubts(filter(None, one.values()))} == {f"{name}=percent" for name in one}
    of_ten = look_at("danceability", 1.03 + np.arange(N) * 0.042)
    assert of_ten is not None
    assert [(doubt.unit, doubt.option) for doubt in doubts([of_ten])] == [(None, None)]


def test_a_few_odd_rows_and_the_sample_are_no_doubt(warehouse) -> None:
    odd = altered("energy", pl.when(pl.int_range(pl.len()) < 2).then(55.0).otherwise(column("energy")))
    assert read(odd, warehouse).notes == ()
    assert ingest("sample:2000", {}, 0.05, warehouse).notes == ()


@pytest.mark.slow
def test_an_append_on_another_scale_is_refused(warehouse) -> None:
    base = read(many(N), warehouse)
    more = many(N).with_columns(instance_id=pl.int_range(10_000, 10_000 + N).cast(pl.String))
    percent = altered("energy", column("energy") * 100, more)
    with pytest.raises(InputError, match=r"on another scale than the tracks that it is appended to.*energy=percent"):
        read(percent, warehouse, append=Append(base.snapshot))
    assert read(percent, warehouse, "energy=percent", Append(base.snapshot)).rows_read == 2 * N
    other = read(altered("energy", column("energy") * 100), warehouse)
    with pytest.raises(InputError, match="in which energy=percent is likely"):
        read(more, warehouse, append=Append(other.snapshot))
    assert read(percent, warehouse, append=Append(other.snapshot)).scales == ("energy=percent",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("energy", "is not of the form our_column=unit"),
        ("key=percent", "column 'key' has no units. Those that have: acousticness"),
        ("energy=parsec", "unknown unit 'parsec' of energy. Known: percent, per_mille, or LOW..HIGH"),
        ("tempo=9..3", "unknown unit '9..3' of tempo"),
        ("energy=percent,energy=percent", "'energy' is given twice"),
    ],
)
def test_units_that_are_not_known(text, message) -> None:
    with pytest.raises(UserError, match=message):
        for name, unit in parse_units(text).items():
            unit_of(name, unit)


def test_values_in_memory_are_looked_at_as_those_of_a_file(warehouse) -> None:
    frame = altered("energy", column("energy") * 100)
    lines = read(frame, warehouse).notes
    seen = [look_at(name, typed(read(frame, warehouse), warehouse)[name].drop_nulls().to_numpy()) for name in SCALES]
    assert tuple(doubt_messages(doubts(one for one in seen if one))) == lines
    assert look_at("energy", np.array([])) is None
