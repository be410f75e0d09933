"""Damaged files, by the thousand: each gives rows, rejects or one clear reason, and never another file's columns.

`FUZZ_FILES=50000 FUZZ_SEED=7` in the environment makes it look further.
"""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path
from random import Random

import duckdb
import pyarrow.parquet as pq
import pytest

from tasks.errors import UserError
from tasks.ingest.columns import EXPECTED
from tasks.ingest.read import ingest
from tasks.ingest.snapshots import Snapshot, attach
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse
from tests.helpers.amounts import amount
from tests.helpers.mutations import damaged_file, read_csv, unpacked

FILES = int(os.environ.get("FUZZ_FILES", str(amount(160, 2000))))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
SHARDS = 4
OPTIONAL = ("instance_id", "obtained_date")


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_damaged_files_give_rows_rejects_or_one_reason(shard, tmp_path) -> None:
    home = Warehouse.at(tmp_path / "warehouse")
    path = tmp_path / "tracks.csv"
    numbers = range(shard, FILES, SHARDS)
    accepted = 0
    with duck.connect() as connection:
        for number in numbers:
            content = damaged_file(Random(f"{SEED}:{number}"))  # noqa: S311 - to be repeatable
            path.write_bytes(content)
            try:
                accepted += is_read_rightly(path, content, home, connection)
            except Exception as error:
                raise AssertionError(f"file {number} of seed {SEED}, kept as {path}") from error
    assert 0.1 < accepted / len(numbers) < 0.9  # both ways were tried


def is_read_rightly(path: Path, content: bytes, home: Warehouse, connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the file was accepted; fails if what was read is not what it holds, or if a refusal is not clear."""
    try:
        snapshot = ingest(str(path), {}, 1.0, home)
    except UserError as error:
        message = str(error)
        assert message.startswith("tracks.csv: ")
        assert message.isprintable()
        assert len(message) < 3_000
        assert "Traceback" not in message
        assert "Error:" not in message
        assert not is_sound(content), message
        return False
    else:
        compare(snapshot, content, home, connection)
        return True
    finally:
        assert [file.name for file in (home.root / "tmp").iterdir() if file.suffix != ".lock"] == []


def is_sound(content: bytes) -> bool:
    """Whether nothing is wrong with the file's form."""
    try:
        (header, *rows), ends = read_csv(content)
    except (ValueError, OSError, EOFError, zlib.error):
        return False
    names = names_of(header)
    used = [at for at, name in enumerate(names) if name in EXPECTED and name not in OPTIONAL]
    return (
        all(names.count(name) == 1 or (name in OPTIONAL and name not in names) for name in EXPECTED)
        and {len(row) for row in rows} == {len(header)}
        and any(row[at] for row in rows for at in used)
        and len(ends) == 1
        and not re.match(rb"(\xef\xbb\xbf)?[\r\n]", unpacked(content))  # an empty line before the header
        and not re.search(rb'" +"', unpacked(content))  # which is looked at more strictly
        and b"\x00" not in content[:4096]
    )


def names_of(header: list[str]) -> list[str]:
    """The column names, which may stand among spaces, even within quotes."""
    return [re.sub(r'^ *"(.*)" *$', r"\1", name).strip().removeprefix("\ufeff") for name in header]


def ours_of(name: str, names: list[str]) -> str:
    """What a column is called that goes by the same letters as one of ours, if it alone does."""
    letters = [re.sub(r"[\W_]", "", other.casefold()) for other in names]
    own = re.sub(r"[\W_]", "", name.casefold())
    ours = next((known for known in EXPECTED if known.replace("_", "") == own), name)
    return name if ours in names or letters.count(own) > 1 else ours


def compare(snapshot: Snapshot, content: bytes, home: Warehouse, connection: duckdb.DuckDBPyConnection) -> None:
    """What was stored beside an independent reading of the file."""
    (header, *rows), _ = read_csv(content)
    if title := re.search(r"line (\d+) for the header", " ".join(snapshot.notes)):
        lines = [line for line in unpacked(content).splitlines()[: int(title[1]) - 1] if line.strip(b"\xef\xbb\xbf")]
        header, *rows = [header, *rows][len(lines) :]
    names = [ours_of(name, names_of(header)) for name in names_of(header)]
    assert min(map(len, rows)) == len(header)
    assert not any(value for row in rows for value in row[len(header) :])
    expected = []
    for number, row in enumerate(rows):
        named = {name: value or None for name, value in zip(names, row, strict=False)}
        if "instance_id" not in names:
            named["instance_id"] = str(number + 1)
        expected.append((number + 1, *(named.get(name) for name in EXPECTED)))
    attach(connection, snapshot.snapshot, home)
    columns = ", ".join(map(duck.identifier, EXPECTED))
    assert connection.execute(f"select row_number, {columns} from raw.tracks order by 1").fetchall() == expected
    rejects = pq.read_table(home.table("raw", "rejects", snapshot.snapshot)).to_pylist()
    typed = pq.read_table(home.table("staging", "typed_tracks", snapshot.snapshot)).to_pylist()
    for reject in rejects:
        line = reject["csv_line"].encode()
        if len(reject["csv_line"]) < 10_000:
            assert read_csv(b"\xef\xbb\xbf" + line)[0] == [rows[reject["row_number"] - 1]]
        else:  # the line's beginning
            assert line in unpacked(content)
    assert all(names.count(name) <= 1 for name in EXPECTED)
    assert snapshot.rows_read == len(rows)
    for row in typed:
        texts = dict(zip(EXPECTED, expected[row["row_number"] - 1][1:], strict=True))
        for name in ("energy", "popularity", "tempo", "loudness"):
            assert row[name] is None or row[name] == float(texts[name])
