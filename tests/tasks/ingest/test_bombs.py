"""Files that would take time or memory without end: each takes no more than a plain file of its size."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.errors import InputError
from tasks.ingest.columns import EXPECTED
from tasks.ingest.read import ingest
from tests.helpers.amounts import amount, mostly_long
from tests.helpers.tracks import many, tracks

MIB = 1 << 20
SIZE = 48 * MIB  # of each file when it is unpacked
LIMIT = 700  # MiB: the test's own $MUSIC_MEMORY_LIMIT
HEADER = ",".join(EXPECTED).encode() + b"\n"
ROW = tracks({}).write_csv().splitlines()[1].encode() + b"\n"
BAD = b",".join([b"x"] * len(EXPECTED)) + b"\n"
READ = """
import re, sys, time
from pathlib import Path
from tasks.errors import UserError
from tasks.ingest.read import ingest
from tasks.storage.warehouse import Warehouse
began = time.process_time()
try:
    print("read", ingest(sys.argv[1], {}, 0.05, Warehouse.at(sys.argv[2])).rows_read)
except UserError as error:
    print(error)
# Not ru_maxrss, which begins with what the process that started this one has.
peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())
print(time.process_time() - began, int(peak[1]) / 1024)
"""


@dataclass
class Reading:
    said: str
    seconds: float  # of CPU
    peak: float  # MiB


def read(path: Path, tmp_path: Path) -> Reading:
    """Ingest in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READ), str(path), str(tmp_path / "warehouse")],
        capture_output=True,
        text=True,
        env=os.environ | {"MUSIC_MEMORY_LIMIT": f"{LIMIT}MiB"},
        check=False,
    )
    assert done.stderr == ""
    said, measured = done.stdout.splitlines()
    return Reading(said, *map(float, measured.split()))


def plain(size: int) -> Iterator[bytes]:
    """About so many bytes of sound rows."""
    yield HEADER
    for start in range(0, size // len(ROW), 10_000):
        yield b"".join(b"%d" % (start + number) + ROW[1:] for number in range(10_000))


def bad(size: int) -> Iterator[bytes]:
    yield HEADER
    for _ in range(size // MIB):
        yield BAD * (MIB // len(BAD))


def run_of(what: bytes, before: bytes = HEADER + ROW) -> Callable[[int], Iterator[bytes]]:
    def generate(size: int) -> Iterator[bytes]:
        yield before
        for _ in range(size // MIB):
            yield what * (MIB // len(what))

    return generate


ENDLESS = "no row ends within"
BOMBS: dict[str, tuple[Callable[[int], Iterator[bytes]], str]] = {
    "spaces": (run_of(b" "), ENDLESS),
    "spaces after a quote": (run_of(b" ", HEADER + b'"a"'), ENDLESS),
    "lines of spaces": (run_of(b" " * 999 + b"\n"), "1 values where the header has 18"),
    "a header": (run_of(b"x", b""), ENDLESS),
    "a header of nothing": (run_of(b",", b""), ENDLESS),
    "a header of lines": (run_of(b"\n", b'"'), ENDLESS),
    "a header of quoted lines": (run_of(b'"\n",', b""), "no row ends"),
    "empty lines": (run_of(b"\n"), ENDLESS),
    "empty lines before the header": (run_of(b"\n", b""), ENDLESS),
    "line breaks in quotes": (run_of(b"\n", HEADER + ROW + b'"'), ENDLESS),
    "quotes": (run_of(b'"'), ENDLESS),
    "quoted lines": (run_of(b'"\n",'), ENDLESS),
    "quoted lines apart": (run_of(b'"\n" ",'), ENDLESS),
    "commas": (run_of(b","), ENDLESS),
    "zero bytes": (run_of(b"\0"), ENDLESS),
    "bad rows": (bad, "rows have bad values"),
}


def compressed(chunks: Iterator[bytes], path: Path) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as file:
        for chunk in chunks:
            file.write(chunk)
    return path


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    folder = tmp_path_factory.mktemp("sound")
    return read(compressed(plain(SIZE), folder / "plain.csv.gz"), folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", mostly_long(BOMBS, "spaces"))
def test_a_small_file_that_is_a_large_one_takes_no_more_than_a_plain_one(name, sound, tmp_path) -> None:
    generate, reason = BOMBS[name]
    bomb = read(compressed(generate(SIZE), tmp_path / "bomb.csv.gz"), tmp_path)
    assert sound.said.startswith("read ")
    assert reason in bomb.said
    assert bomb.said.startswith("bomb.csv.gz: ")
    assert bomb.seconds < 4 * sound.seconds
    assert max(sound.peak, bomb.peak) < LIMIT


@pytest.mark.long
def test_twice_the_spaces_take_twice_the_time(tmp_path) -> None:
    took = []
    for lines in (40, 80):
        path = tmp_path / f"{lines}.csv"
        path.write_bytes(HEADER + b"".join(b'"a"' + b" " * 1_900_000 + b"x\n" for _ in range(lines)))
        took.append(read(path, tmp_path).seconds)
    assert took[1] < 4 * took[0] + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", mostly_long([{}, {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"}], {})
)
@pytest.mark.parametrize(("size", "is_refused"), mostly_long([(20, False), (100_000, True)], (100_000, True)))
def test_values_of_a_parquet_file_are_measured_before_they_are_read(size, is_refused, options, tmp_path) -> None:
    """100,000 rows of one artist, whose name has so many bytes: 10 GB in the longer file."""
    rows = 100_000
    table = tracks({}).to_arrow().take(pa.array([0] * rows))
    table = table.set_column(0, "instance_id", pa.array(map(str, range(rows))))
    names = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["a" * size]))
    if options:
        rows = 20_000 if is_refused else rows
        table, names = table.slice(0, rows), pa.array(["a" * size] * rows)
        options = {**options, "column_encoding": {"artist_name": "DELTA_BYTE_ARRAY"}}
    path = tmp_path / "t.parquet"
    pq.write_table(table.set_column(1, "artist_name", names), path, compression="zstd", store_schema=False, **options)
    assert path.stat().st_size < 4 * MIB
    found = read(path, tmp_path)
    assert found.peak < LIMIT
    if is_refused:
        assert "has a value of 100,000 bytes" in found.said or "more memory than $MUSIC_MEMORY_LIMIT" in found.said
    else:
        assert found.said == f"read {rows}"


def test_the_values_of_a_parquet_file_count_unpacked(tmp_path, warehouse) -> None:
    path = tmp_path / "t.parquet"
    frame = many(2_000).with_columns(artist_name=pl.lit("a" * 5_000))
    frame.write_parquet(path, compression="zstd")
    with pytest.raises(InputError, match=r"t\.parquet: holds 1\d,\d{3},\d{3} bytes of text, more than the 9,000,000"):
        ingest(str(path), {}, 0.0, warehouse, max_bytes=9_000_000)
    assert ingest(str(path), {}, 0.0, warehouse, max_bytes=20_000_000).rows_read == frame.height


def test_a_record_is_no_text_and_a_list_is_read(tmp_path, warehouse) -> None:
    path = tmp_path / "t.parquet"
    many(50).with_columns(artist_name=pl.concat_list("artist_name")).write_parquet(path)
    assert ingest(str(path), {}, 0.05, warehouse).rejected_rows == 0
    many(50).with_columns(artist_name=pl.struct("artist_name")).write_parquet(path)
    with pytest.raises(InputError, match="column 'artist_name' holds records"):
        ingest(str(path), {}, 0.0, warehouse)


def test_more_columns_than_anyone_has_are_refused(tmp_path, warehouse) -> None:
    text = HEADER[:-1] + b"".join(b",c%d" % number for number in range(10_000)) + b"\n"
    (tmp_path / "t.csv").write_bytes(text)
    with pytest.raises(InputError, match=r"t\.csv: has 10,018 columns; 10,000 are read at most"):
        ingest(str(tmp_path / "t.csv"), {}, 0.0, warehouse)


def test_a_parquet_file_that_describes_itself_without_end_is_refused(tmp_path, warehouse) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1" + (8_000_001).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(InputError, match=r"t\.parquet: has a footer of 8,000,001 bytes"):
        ingest(str(tmp_path / "t.parquet"), {}, 0.0, warehouse)


@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest.mark.parametrize("letters", [1_000_000, 1_990_000, 2_010_000, 3_000_000, 4_500_000])
def test_a_long_last_row_is_read_or_refused_but_never_dropped(letters, end, tmp_path, warehouse) -> None:
    long = b"2" + ROW[1:].replace(b"An Artist", b"a" * letters).rstrip()
    (tmp_path / "t.csv").write_bytes(HEADER + ROW + long + end)
    if letters < 2_000_000:
        assert ingest(str(tmp_path / "t.csv"), {}, 0.0, warehouse).rows_read == 2
    else:
        with pytest.raises(InputError, match=r"t\.csv: (line 3: is longer than the 2,000,000|no row ends within)"):
            ingest(str(tmp_path / "t.csv"), {}, 0.0, warehouse)


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["snappy", "zstd"])
def test_a_parquet_file_with_any_byte_changed_is_read_or_refused_in_one_line(codec, tmp_path, warehouse) -> None:
    path = tmp_path / "t.parquet"
    many(60).write_parquet(path, compression=codec)
    sound = path.read_bytes()
    reasons = []
    for at in range(4, len(sound), len(sound) // amount(30, 150)):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 0xFF]) + sound[at + 1 :])
        try:
            ingest(str(path), {}, 1.0, warehouse)
        except InputError as error:
            reasons.append(str(error))
    assert len(reasons) > amount(4, 20)
    assert [reason for reason in reasons if not (reason.startswith("t.parquet: ") and reason.isprintable())] == []
    assert [file.name for file in (warehouse.root / "tmp").iterdir() if file.suffix != ".lock"] == []
