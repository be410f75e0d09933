"""From what the user names as the source to a local file whose format and header are known."""

from __future__ import annotations

import csv
import gzip
import hashlib
import itertools
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal

from pydantic import ByteSize

from tasks.errors import InputError, UserError, one_line
from tasks.ingest import parquet
from tasks.ingest.columns import MIN_FEATURES
from tasks.ingest.download import download
from tasks.ingest.files import check_regular, regular_file, unreadable
from tasks.ingest.records import CHUNK, check_text, records
from tasks.ingest.sample import DEFAULT_ROWS, sample_file
from tasks.storage.urls import public_name
from tasks.storage.warehouse import Warehouse

Format = Literal["csv", "gzip", "parquet"]
SAMPLE = re.compile(r"sample(?::(\d+))?")
LOCAL = re.compile(r"(?:file|local)://")  # URLs of files that are here anyway
MAX_BYTES = ByteSize(20_000_000_000)  # of a source, also when unpacked, unless --max-source-bytes says otherwise
MOST_TITLE_LINES = 10
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
MOST_COLUMNS = 10_000
MOST_SHOWN = 10_000  # characters of a row
BYTES_OF_ROW = 150  # of a CSV file, more or less
csv.field_size_limit(10_000_000)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A local file to read, its format told by its first bytes."""

    path: Path
    label: str  # how messages and results.runs name it
    file_format: Format
    is_generated: bool
    sha256: str
    seen: tuple[int, ...]  # what changes when the file does, from just before it was digested
    title_lines: int = 0  # above a CSV's header
    max_bytes: int = MAX_BYTES  # that it may hold when unpacked

    def check_unchanged(self) -> None:
        """Raises: InputError: the file is another than it was, so that its digest may not be that of what was read."""
        try:
            is_same = _seen(self.path.stat()) == self.seen
        except OSError:
            is_same = False
        if not is_same:
            raise InputError(f"{self.label}: changed while it was read. Give it again when it is complete.")

    def header(self) -> tuple[list[str], str]:
        """The column names in order, and what ends their line, as DuckDB's new_line has it (of a Parquet file nothing).

        Raises: InputError: the file is no CSV, is separated by something else, or has too many columns.
        """
        if self.file_format == "parquet":
            header, end = list(parquet.schema(self.path, self.label).names), ""
        else:
            header, end = self._text_header()
        if len(header) > MOST_COLUMNS:
            raise InputError(
                f"{self.label}: has {len(header):,} columns; {MOST_COLUMNS:,} are read at most. Keep those listed in "
                'docs/commands.md, "Input".'
            )
        return header, end

    def _text_header(self) -> tuple[list[str], str]:
        with self.content() as content:
            found = (one for one in records(content, self.label) if one[0] > self.title_lines)
            line, record, end = next(found, (1, b"", b""))
        try:
            text = record.decode() if line == self.title_lines + 1 else ""  # an empty line is a header without names
            header = next(csv.reader([text], skipinitialspace=True), [])  # as DuckDB
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(
                f"{self.label}: is not a CSV file in UTF-8 ({one_line(error)}). Save it as UTF-8."
            ) from error
        for separator, name in OTHER_SEPARATORS.items():
            if len(header) == 1 and header[0].count(separator) > 2:
                raise InputError(
                    f"{self.label}: its columns are separated by {name}, not by commas. Save it with commas."
                )
        return header, repr((end or b"\n").decode())[1:-1]

    @contextmanager
    def content(self) -> Iterator[IO[bytes]]:
        """The file's bytes, unpacked. Raises: InputError: they cannot be."""
        with regular_file(self.path, self.label) as file:
            if self.file_format != "gzip":
                yield file
                return
            try:
                with gzip.open(file) as unpacked:
                    yield unpacked  # type: ignore[misc]
            except (OSError, EOFError, zlib.error) as error:
                raise InputError(
                    f"{self.label}: is a damaged gzip file ({one_line(error)}). Compress or fetch it again."
                ) from error

    @property
    def title_note(self) -> str | None:
        """What is said of lines above the header."""
        if not self.title_lines:
            return None
        lines = "line 1 is" if self.title_lines == 1 else f"lines 1 to {self.title_lines} are"
        return f"{lines} taken for a title, and line {self.title_lines + 1} for the header."

    def located(self, rows: Iterable[int]) -> Iterator[tuple[int, int, str]]:
        """Of data rows counted from 1, one after the other: row, line in the file (the first of several) and text.

        Of a long row the text's beginning. A Parquet file has no lines: its rows are numbered instead, with empty text.

        Args: rows: ascending, each once.
        """
        if self.file_format == "parquet":
            yield from ((row, row, "") for row in rows)
            return
        wanted = iter(rows)
        sought = next(wanted, None)
        with self.content() as content:
            rows_of = (found for found in records(content, self.label) if found[0] > self.title_lines)
            for row, (line, record, _) in enumerate(rows_of):  # row 0 is the header
                if row == sought:
                    yield row, line, record[: 4 * MOST_SHOWN].decode(errors="replace")[:MOST_SHOWN]
                    sought = next(wanted, None)
                if sought is None:
                    return


def sample_rows(source: str, max_bytes: int = MAX_BYTES) -> int | None:
    """How many generated tracks `source` asks for; None: it is something else.

    Raises: UserError: it asks for the sample, but not for a number of rows, or for more than `max_bytes` hold.
    """
    if sample := SAMPLE.fullmatch(source):
        most = max_bytes // BYTES_OF_ROW
        digits = (sample[1] or str(DEFAULT_ROWS)).lstrip("0") or "0"
        if len(digits) > len(str(most)) or int(digits) > most:
            raise UserError(f"--source sample: of more than {most:,} tracks takes more than --max-source-bytes allows.")
        return int(digits)
    if source.startswith("sample:"):
        raise UserError(f"--source {source}: sample[:ROWS] takes a whole number of rows.")
    return None


def check(source: str, max_bytes: int = MAX_BYTES) -> None:
    """Raises: UserError: it is plain without reading anything that `source` cannot be read."""
    if sample_rows(source, max_bytes) is None and (local := _local(source)):
        check_regular(*local)


@contextmanager
def opened(source: str, warehouse: Warehouse, max_bytes: int = MAX_BYTES) -> Iterator[SourceFile]:
    """The file behind `source`: a path, a URL that fsspec can read, or `sample[:ROWS]`. Downloads are removed.

    Args: max_bytes: that it may hold, also when it is unpacked.
    Raises: InputError: it cannot be read, is empty, too large, or plainly something else than CSV or Parquet.
    """
    if (rows := sample_rows(source, max_bytes)) is not None:
        yield _inspect(sample_file(warehouse, rows), source, max_bytes, is_generated=True)
    elif local := _local(source):
        yield _inspect(*local, max_bytes)
    else:
        label = public_name(source)
        temporary = warehouse.temporary("download")
        try:
            download(source, label, temporary, max_bytes)
            yield _inspect(temporary, label, max_bytes)
        finally:
            temporary.unlink(missing_ok=True)


def _local(source: str) -> tuple[Path, str] | None:
    """The path that `source` names on this machine, if it does, and how messages name it."""
    if LOCAL.match(source) and "::" not in source:
        return Path(LOCAL.sub("", source, count=1)), public_name(source)
    if "://" in source:
        return None
    path = Path(source).expanduser()
    return path, one_line(path.name)


def _inspect(path: Path, label: str, max_bytes: int, *, is_generated: bool = False) -> SourceFile:
    with regular_file(path, label) as file:
        try:
            seen = _seen(os.fstat(file.fileno()))
            size = seen[2]
            start = file.read(4096) if size else b""  # files of the kernel's have no size, and may have no end
            file_format = _format(start, size, label, max_bytes)
            digest = hashlib.sha256(start)
            left = size - len(start)  # more than this is not read of a file that grows
            while left > 0 and (chunk := file.read(min(CHUNK, left))):
                digest.update(chunk)
                left -= len(chunk)
        except OSError as error:
            raise unreadable(path, label, error) from error
    source = SourceFile(path, label, file_format, is_generated, digest.hexdigest(), seen, max_bytes=max_bytes)
    source.check_unchanged()
    if file_format == "parquet":
        return source
    with source.content() as content:
        check_text(content, label, max_bytes)
    return replace(source, title_lines=_title_lines(source))


def _title_lines(file: SourceFile) -> int:
    """How many lines stand above the header: with next to nothing in them, followed by one with many names."""
    try:
        with file.content() as content:
            first = list(itertools.islice(records(content, file.label), MOST_TITLE_LINES + 1))
        filled = [_filled(record.decode()) for _, record, _ in first]
    except (UnicodeDecodeError, csv.Error):  # told when the header is read
        return 0
    for number, (here, there) in enumerate(itertools.pairwise(filled)):
        if here > 2:
            break
        if there >= 3 * max(here, 1):
            return first[number + 1][0] - 1
    return 0


def _filled(record: str) -> int:
    """How many values a line has; many that something else than commas separates are values, too."""

    def values(separator: str) -> int:
        row = next(csv.reader([record], delimiter=separator, skipinitialspace=True), [])
        return sum(bool(cell.strip()) for cell in row)

    return max(values(","), *(n for n in map(values, OTHER_SEPARATORS) if n >= MIN_FEATURES), 0)


def _format(start: bytes, size: int, label: str, max_bytes: int) -> Format:
    """What the first bytes of a file say that it is. Raises: InputError: nothing that is read."""
    if not start:
        raise InputError(f"{label}: is empty.")
    if size > max_bytes:
        raise InputError(f"{label}: has {size:,} bytes, more than the {max_bytes:,} that --max-source-bytes allows.")
    if start[:4] == b"PAR1":
        return "parquet"
    if start[:2] == b"\x1f\x8b":
        return "gzip"
    if start[:2] == b"PK":
        raise InputError(f"{label}: is a ZIP archive or an Excel workbook. Unpack it, or save it as CSV.")
    if start[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise InputError(f"{label}: is in UTF-16. Save it as UTF-8.")
    if b"\x00" in start:
        raise InputError(
            f"{label}: is neither a CSV nor a Parquet file (it holds zero bytes; the first: {start[:8].hex(' ')})."
        )
    return "csv"


def _seen(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
