"""Checks the bytes of any CSV file and splits them into rows, in linear time and bounded memory."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import IO

from tasks.errors import InputError

CHUNK = 1 << 20
LONGEST = 4_000_000  # bytes without a row end: DuckDB's buffer, of which a row may fill half (sql/raw/tracks.sql)
MARK = b"\xef\xbb\xbf"  # the byte order mark that UTF-8 files may begin with
QUOTES_APART = re.compile(rb'" +"')
# A quoted value begins with a quote. Every repetition is possessive, so that there is no backtracking.
VALUE = rb' *+(?:"[^"]*+(?:""[^"]*+)*+"?+)?+[^,\r\n]*+'
RECORD = re.compile(rb"[\r\n]*+(" + VALUE + rb"(?:," + VALUE + rb")*+)(\r\n|[\r\n])?+")


def check_text(content: IO[bytes], label: str, max_bytes: int) -> None:
    """Checks a CSV file for content that DuckDB would misread without an error, or that needs unbounded memory.

    DuckDB drops a last row that is too long, and reads `"a" "b"` as one value. It refuses other misplaced quotes.

    Args: content: seekable. max_bytes: the largest size that is accepted.

    Raises: InputError: there is such content, or the file is larger.
    """
    is_suspect = False
    before = b""
    size = unended = 0
    line = 1
    while chunk := content.read(CHUNK):
        size += len(chunk)
        if size > max_bytes:
            raise InputError(f"{label}: holds more than the {max_bytes:,} bytes that --max-source-bytes allows.")
        if not is_suspect:
            text = before + chunk
            is_suspect = QUOTES_APART.search(text) is not None
            end = len(text.rstrip(b" "))
            before = text[max(0, end - 1) : end + 1]  # one space of a run is enough
        unended = _check_end(chunk, unended, label, line)
        line += chunk.count(b"\n") or chunk.count(b"\r")
    if unended > LONGEST:
        raise _endless(label, line)
    if is_suspect:
        content.seek(0)
        _check_quotes(content, label)


def records(content: IO[bytes], label: str) -> Iterator[tuple[int, bytes, bytes]]:
    """Yields each row that is not empty, the header first: the line where it begins, its bytes, and its line end.

    Raises: InputError: a row does not end.
    """
    line, block = 1, content.read(CHUNK).removeprefix(MARK)
    while block:
        more = content.read(CHUNK)
        counted = done = 0
        for found in RECORD.finditer(block):
            if more and found.end() == len(block):
                break  # the row may continue in the next chunk
            line += _lines(block, counted, found.start(1))
            counted, done = found.start(1), found.end()
            if found[1]:
                yield line, found[1], found[2] or b""
        line += _lines(block, counted, done)
        if len(block) - done > LONGEST + CHUNK:
            raise _endless(label, line)
        block = block[done:] + more


def _check_end(chunk: bytes, unended: int, label: str, line: int) -> int:
    """Returns the number of bytes since the last row end, after this chunk. Args: unended: that number before it."""
    started = len(chunk) - len(chunk.lstrip(b"\r\n"))
    ends = [at for at in (chunk.find(b"\n", started), chunk.find(b"\r", started)) if at >= 0]
    if unended + min(ends, default=len(chunk)) > LONGEST:
        raise _endless(label, line)
    if not ends:
        return unended + len(chunk)
    last = len(chunk.rstrip(b"\r\n"))
    return len(chunk) - (last if last < len(chunk) else max(chunk.rfind(b"\n"), chunk.rfind(b"\r")))


def _check_quotes(content: IO[bytes], label: str) -> None:
    """Raises: InputError: a row has text after a closing quote."""
    for line, record, _ in records(content, label):
        if QUOTES_APART.search(record):
            try:
                list(csv.reader([record.decode(errors="replace")], strict=True, skipinitialspace=True))
            except csv.Error as error:
                raise InputError(
                    f"{label}: line {line}: text after a closing quote. Double the quotes within values."
                ) from error


def _lines(block: bytes, start: int, end: int) -> int:
    lone = block.count(b"\r", start, end)
    return block.count(b"\n", start, end) + (lone - block.count(b"\r\n", start, end) if lone else 0)


def _endless(label: str, line: int) -> InputError:
    return InputError(
        f"{label}: no row ends within {LONGEST:,} bytes after line {line:,}: a value, or a run of empty lines, is too "
        "long. Is it a CSV file?"
    )
