"""Small CSV files of tracks, damaged as files get damaged, and a reading of them that owes nothing to tasks/."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from functools import cache
from random import Random

import polars as pl

from tests.helpers.tracks import many

LINE_ENDS = ("\n", "\r\n", "\r")
NUMBERS = (
    "1e400", "-1e400", "nan", "NaN", "-nan", "inf", "-Infinity", "1e15", "1e-400", "9" * 400, "-0", "+5", " 5",
    "5 ", "1_000", "0x10", "1,5", "1.5.", ".", "-", "e5", "\u0665", "\uff15", "5\u00a0", "5%", "12e", "true",
    "null", "NULL", "None", "\\N", "N/A", "?", "-1", "9223372036854775808",
    "99999999999999999999999999999999999999", "1.0000001", "1.", "01", "1e3", "=1+1",
)  # fmt: skip
TEXTS = (
    "", " ", "empty_field", "a,b", 'a"b', '"', '""', "a\nb", "a\r\nb", "'; drop table raw.tracks; --",
    "{{ 7 * 7 }}", "{% raw %}", "$path", "[red]x[/red]", "<script>alert(1)</script>", "\u202eabc", "a\x00b",
    "\x1b[31m", "\ufeff", "\u2028", "x" * 70_000, "C\u266f", "\U0001f3b5", "e\u0301", "\\", "\t", "#", "--", "a;b",
    "a|b",
)  # fmt: skip
BYTES = (
    b"\x00", b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\xff\xfe", b"\x80", b"\x1a", b"\x85", b"\xe2\x80\xa8",
    b"\xed\xa0\x80", b"\r", b"\n", b"\r\n", b'"', b'""', b'" "', b' "', b'" ', b",", b",,", b" ", b"\\", b";",
    b"\t", b"'", b"#",
)  # fmt: skip
Cells = list[list[str]]


def damaged_file(random: Random) -> bytes:
    """A CSV file, sometimes compressed, with up to four damages; sometimes with none."""
    cells = _cells(random)
    for _ in range(random.choice((0, 0, 1, 1, 2))):
        if len(cells) > 1 and min(map(len, cells)) > 1:
            random.choice(CELL_DAMAGES)(cells, random)
    content = _written(cells, random)
    for _ in range(random.choice((0, 1, 1, 1, 2))):
        content = random.choice(BYTE_DAMAGES)(content, random)
    if random.random() < 0.08:
        content = gzip.compress(content, mtime=0)
        if random.random() < 0.5:
            content = random.choice(BYTE_DAMAGES)(content, random)
    return content


def _cells(random: Random) -> Cells:
    rows = _rows(random.randint(3, 20))
    return [list(rows.columns), *map(list, rows.rows())]


@cache
def _rows(n: int) -> pl.DataFrame:
    return many(n)


def _written(cells: Cells, random: Random) -> bytes:
    """As CSV: quoted where it must be or always, with one kind of line end, mostly."""
    always, spaced = random.random() < 0.2, random.random() < 0.05
    ends = LINE_ENDS if random.random() < 0.1 else (random.choices(LINE_ENDS, (8, 3, 1))[0],)
    text = "".join(
        (", " if spaced else ",").join(
            '"' + value.replace('"', '""') + '"' if always or re.search('[",\r\n]', value) else value for value in row
        )
        + random.choice(ends)
        for row in cells
    )
    if random.random() < 0.2:
        text = text.rstrip("\r\n")
    return (b"\xef\xbb\xbf" if random.random() < 0.1 else b"") + text.encode()


def _any_row(cells: Cells, random: Random) -> list[str]:
    return cells[random.randrange(1, len(cells))]


def _put(values: tuple[str, ...]) -> Callable[[Cells, Random], None]:
    def put(cells: Cells, random: Random) -> None:
        row = _any_row(cells, random)
        row[random.randrange(len(row))] = random.choice(values)

    return put


def _swap_cells(cells: Cells, random: Random) -> None:
    row = _any_row(cells, random)
    a, b = random.sample(range(len(row)), 2)
    row[a], row[b] = row[b], row[a]


def _swap_columns(cells: Cells, random: Random) -> None:
    a, b = random.sample(range(min(map(len, cells))), 2)
    for row in cells:
        row[a], row[b] = row[b], row[a]


def _shuffle_columns(cells: Cells, random: Random) -> None:
    order = random.sample(range(min(map(len, cells))), min(map(len, cells)))
    cells[:] = [[row[at] for at in order] for row in cells]


def _add_column(cells: Cells, random: Random) -> None:
    at, name = random.randrange(len(cells[0]) + 1), random.choice((*TEXTS, *cells[0], "extra"))
    for number, row in enumerate(cells):
        row.insert(at, name if number == 0 else f"extra {number}")


def _drop_column(cells: Cells, random: Random) -> None:
    at = random.randrange(min(map(len, cells)))
    for row in cells:
        del row[at]


def _rename_column(cells: Cells, random: Random) -> None:
    at = random.randrange(len(cells[0]))
    name = cells[0][at]
    changed = (name.upper(), name.title(), f" {name} ", f"{name}\n", f"\ufeff{name}", name[:-1])
    cells[0][at] = random.choice((*changed, random.choice(cells[0]), *TEXTS))


def _drop_cell(cells: Cells, random: Random) -> None:
    row = random.choice(cells)
    del row[random.randrange(len(row))]


def _double_cell(cells: Cells, random: Random) -> None:
    row = random.choice(cells)
    at = random.randrange(len(row))
    row.insert(at, row[at])


def _repeat_row(cells: Cells, random: Random) -> None:
    cells.insert(random.randrange(len(cells) + 1), list(random.choice(cells)))


def _blank_row(cells: Cells, random: Random) -> None:
    empty: list[str] = []
    cells.insert(random.randrange(len(cells) + 1), random.choice((empty, [""] * len(cells[0]), [" "])))


def _drop_rows(cells: Cells, random: Random) -> None:
    del cells[random.randrange(len(cells)) :]


CELL_DAMAGES = (
    _put(NUMBERS), _put(NUMBERS), _put(TEXTS), _put(TEXTS), _swap_cells, _swap_columns, _shuffle_columns,
    _add_column, _drop_column, _rename_column, _rename_column, _drop_cell, _double_cell, _repeat_row, _blank_row,
    _drop_rows,
)  # fmt: skip


def _flip(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 3)) if changed else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _insert(content: bytes, random: Random) -> bytes:
    at = random.choice((0, random.randrange(len(content) + 1), len(content)))
    return content[:at] + random.choice(BYTES) + content[at:]


def _structural(content: bytes, random: Random) -> int | None:
    places = [found.start() for found in re.finditer(rb'[",\r\n]', content)]
    return random.choice(places) if places else None


def _delete_mark(content: bytes, random: Random) -> bytes:
    at = _structural(content, random)
    return content if at is None else content[:at] + content[at + 1 :]


def _double_mark(content: bytes, random: Random) -> bytes:
    at = _structural(content, random)
    return content if at is None else content[: at + 1] + content[at:]


def _beside_mark(content: bytes, random: Random) -> bytes:
    at = _structural(content, random)
    if at is None:
        return content
    at += random.randrange(2)
    return content[:at] + random.choice((b'"', b" ", b'" "', b"\r", b"\n", b"\t")) + content[at:]


def _exchange_mark(content: bytes, random: Random) -> bytes:
    at = _structural(content, random)
    return content if at is None else content[:at] + random.choice((b",", b'"', b"\n", b"\r", b";")) + content[at + 1 :]


def _truncate(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _repeat_part(content: bytes, random: Random) -> bytes:
    a, b = sorted(random.randrange(len(content) + 1) for _ in range(2))
    return content[:b] + content[a:]


def _recode(content: bytes, random: Random) -> bytes:
    text = content.decode("utf-8", "replace").replace("Artist", "\u00c4rtist", random.randrange(3))
    return text.encode(random.choice(("latin-1", "utf-16", "utf-16-le", "utf-32", "cp1252", "utf-8-sig")), "replace")


def _separate(content: bytes, random: Random) -> bytes:
    return content.replace(b",", random.choice((b";", b"\t", b"|", b" ", b", ", b" ,")))


BYTE_DAMAGES = (
    _flip, _flip, _insert, _insert, _delete_mark, _delete_mark, _double_mark, _beside_mark, _beside_mark,
    _exchange_mark, _exchange_mark, _truncate, _repeat_part, _recode, _separate,
)  # fmt: skip

QUOTED = re.compile(r' ?"((?:[^"]|"")*)" *(?=[,\r\n]|\Z)')
PLAIN = re.compile(r'(?! ?")[^,\r\n]*')
END = re.compile(r"\r\n|\r|\n|\Z")


def unpacked(content: bytes) -> bytes:
    """The file itself, if it is compressed."""
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def read_csv(content: bytes) -> tuple[Cells, set[str]]:
    """Header and rows as RFC 4180 reads them, and the kinds of line ends that the file has.

    But any line end will do, a space before a quoted value and spaces after it are ignored, and empty lines left out.

    Raises: ValueError: the file is not well-formed, or not in UTF-8.
    """
    text = unpacked(content).decode("utf-8-sig")
    rows: Cells = []
    row: list[str] = []
    ends: set[str] = set()
    at = 0
    while at < len(text):
        quoted = QUOTED.match(text, at)
        plain = quoted or PLAIN.match(text, at)
        if plain is None:
            raise ValueError(f"a quote is out of place at {at}")
        row.append(quoted[1].replace('""', '"') if quoted else plain[0])
        at = plain.end()
        if end := END.match(text, at):
            if quoted or row != [""]:
                rows.append(row)
            ends |= {end[0]} - {""}
            row, at = [], end.end()
        else:
            at += 1
            if at == len(text):
                rows.append([*row, ""])
    return rows, ends
