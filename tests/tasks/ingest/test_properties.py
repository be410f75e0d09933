"""What ingest must do with any file: keep every value, lose no row, and not care how the file is written."""

from __future__ import annotations

import gzip
import math
import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.ingest.columns import EXPECTED, NUMERIC, is_missing
from tasks.ingest.read import ingest
from tasks.ingest.snapshots import Snapshot, attach
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse
from tests.helpers.amounts import amount
from tests.helpers.mutations import LINE_ENDS, NUMBERS
from tests.helpers.tracks import tracks
from tests.helpers.untrusted import UNTRUSTED

TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8),
    st.text(alphabet=" ,\"\n\r\t;'\\a", max_size=6),
    st.sampled_from(UNTRUSTED),
    st.sampled_from(NUMBERS),
)
NUMBER = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.builds(lambda digits, exponent: repr(digits * 10.0**exponent), st.floats(1, 10), st.integers(-5, 18)),
    st.integers(-5, 120).map(str),
    TEXT,
)
CELLS = {
    **dict.fromkeys(EXPECTED, TEXT),
    **dict.fromkeys(NUMERIC, NUMBER),
    "instance_id": st.one_of(st.integers(0, 30).map(str), NUMBER),
    "key": st.sampled_from(["C", "d#", "11", "12", "?"]),
    "mode": st.sampled_from(["Major", " minor", "0", "2"]),
    "music_genre": st.one_of(st.just("Rap"), st.just(""), TEXT),
}
ROW = st.one_of(
    st.just({}),
    st.integers(1, 5).map(lambda number: {"instance_id": str(number)}),  # which stands in another row, too
    st.sampled_from(EXPECTED).flatmap(lambda name: st.fixed_dictionaries({name: CELLS[name]})),
    st.fixed_dictionaries(CELLS),
    st.just(dict.fromkeys(EXPECTED, "")),
)
FRAMES = st.lists(ROW, min_size=1, max_size=25).map(lambda rows: tracks({}, *rows))


def as_csv(frame: pl.DataFrame, *, end: str = "\n", always: bool = False) -> bytes:
    def cell(value: str) -> str:
        return '"' + value.replace('"', '""') + '"' if always or re.search('[",\r\n]', value) else value

    rows = [frame.columns, *frame.rows()]
    return "".join(",".join(cell(value or "") for value in row) + end for row in rows).encode()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Warehouse:
    return Warehouse.at(tmp_path_factory.mktemp("properties"))


@st.composite
def another_way(draw, frame: pl.DataFrame) -> bytes | pl.DataFrame:
    """The same tracks: as CSV with other columns beside, other quotes and line ends, or compressed, or as Parquet."""
    extra = {f"extra {number}": pl.lit(draw(TEXT)) for number in range(draw(st.integers(0, 2)))}
    frame = frame.with_columns(**extra)
    frame = frame.select(draw(st.permutations(frame.columns)))
    how = draw(st.sampled_from(["csv", "gzip", "parquet"]))
    if how == "parquet":
        return frame
    content = as_csv(frame, end=draw(st.sampled_from(LINE_ENDS)), always=draw(st.booleans()))
    content = b"\xef\xbb\xbf" * draw(st.booleans()) + content
    return gzip.compress(content) if how == "gzip" else content


def read(content: bytes | pl.DataFrame, home: Warehouse) -> tuple[Snapshot, dict[str, pl.DataFrame]]:
    path = home.root / "tracks.file"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content.write_parquet(path)
    snapshot = ingest(str(path), {}, 1.0, home)
    with duck.workspace(home.root / "tmp") as connection:
        attach(connection, snapshot.snapshot, home)
        names = ("raw.tracks", "staging.typed_tracks", "raw.rejects")
        return snapshot, {name: connection.sql(f"from {name}").pl() for name in names}


@pytest.mark.slow
@given(data=st.data())
@settings(deadline=None, max_examples=amount(8, 40))
def test_how_a_file_is_written_changes_nothing(home, data) -> None:
    frame = data.draw(FRAMES)
    _, plain = read(as_csv(frame), home)
    _, other = read(data.draw(another_way(frame)), home)
    expected = frame.select(pl.all().replace("", None)).with_row_index("row_number", 1)
    for tables in (plain, other):
        assert tables["raw.tracks"].select(EXPECTED).rows() == expected.select(EXPECTED).rows()
    assert plain["staging.typed_tracks"].equals(other["staging.typed_tracks"])
    reasons = ["row_number", "column_name", "error"]
    assert plain["raw.rejects"].select(reasons).equals(other["raw.rejects"].select(reasons))


@pytest.mark.slow
@given(frame=FRAMES, min_genre_rows=st.integers(1, 4))
@settings(deadline=None, max_examples=amount(8, 40))
def test_every_row_is_kept_rejected_or_counted_as_dropped(home, frame, min_genre_rows) -> None:
    snapshot, tables = read(as_csv(frame), home)
    with duck.workspace(home.root / "tmp") as connection:
        attach(connection, snapshot.snapshot, home)
        for name in ("staging.rare_genres", "staging.stg_tracks"):
            sql = name.replace(".", "/")
            values = duck.bound(duck.source(sql), {"min_genre_rows": min_genre_rows})
            connection.execute(f"create table {name} as {duck.render(sql)}", values)
        kept = connection.execute("select row_number from staging.stg_tracks").fetchall()
        rare = connection.execute("select dropped_rows from staging.rare_genres").fetchall()
    rejected = set(tables["raw.rejects"]["row_number"])
    assert not rejected & {row for (row,) in kept}
    assert snapshot.rejected_rows == len(rejected)
    assert snapshot.rejected_values == tables["raw.rejects"].height
    assert snapshot.rows_read == frame.height == snapshot.blank_rows + tables["staging.typed_tracks"].height
    dropped = snapshot.blank_rows + snapshot.rows_without_genre + sum(rows for (rows,) in rare)
    assert frame.height == len(kept) + len(rejected) + dropped
    ids = tables["staging.typed_tracks"].filter(pl.col("row_number").is_in([row for (row,) in kept]))["track_id"]
    assert ids.is_unique().all()


@pytest.mark.slow
@given(texts=st.lists(NUMBER, min_size=30, max_size=30))
@settings(deadline=None, max_examples=amount(8, 40))
def test_a_number_is_read_exactly_or_rejected(home, texts) -> None:
    _, tables = read(as_csv(tracks(*({"energy": text} for text in texts))), home)
    rejected = set(tables["raw.rejects"].filter(column_name="energy")["row_number"])
    for row, text, value in zip(range(1, 31), texts, tables["staging.typed_tracks"]["energy"], strict=True):
        assert (value is None) == (row in rejected or is_missing(text))
        assert value is None or value == float(text)
        if re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", text, re.ASCII):
            assert (value is None) == (abs(float(text)) >= 1e15 or math.isinf(float(text)))


@pytest.mark.slow
@given(data=st.data())
@settings(deadline=None, max_examples=amount(5, 20))
def test_the_order_of_rows_changes_no_row(home, data) -> None:
    rows = data.draw(st.lists(ROW, min_size=2, max_size=25))
    # Of rows that share an id the first is kept, so here none do.
    frame = tracks(*rows).with_columns(instance_id=pl.int_range(2, len(rows) + 2).cast(pl.String))
    turned = frame[data.draw(st.permutations(range(len(rows))))]
    pairs = [read(as_csv(one), home)[1] for one in (tracks({}).vstack(frame), tracks({}).vstack(turned))]
    typed, rejects = (
        [tables[name].drop("row_number").sort(pl.all()) for tables in pairs]
        for name in ("staging.typed_tracks", "raw.rejects")
    )
    assert typed[0].equals(typed[1])
    reasons = ["column_name", "error", "csv_line"]
    assert rejects[0].select(reasons).sort(reasons).equals(rejects[1].select(reasons).sort(reasons))
