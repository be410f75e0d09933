"""Resolves the source that the user names to a local file, and finds its format and header."""

from __future__ import annotations

import csv
import gzip
import hashlib
import itertools
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal

from tasks.errors import InputError, one_line
from tasks.ingest import parquet
from tasks.ingest.columns import MIN_FEATURES
from tasks.ingest.download import download
from tasks.ingest.files import regular_file, unreadable
from tasks.ingest.records import CHUNK, check_text, records
from tasks.ingest.source_names import local_file, sample_rows
from tasks.specs import MAX_SOURCE_BYTES
from tasks.storage.urls import public_name
from tasks.storage.warehouse import Warehouse

Format = Literal["csv", "gzip", "parquet"]
MOST_TITLE_LINES = 10
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
MOST_COLUMNS = 10_000
MOST_SHOWN = 10_000  # characters kept of a rejected row
csv.field_size_limit(10_000_000)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A local file to read, whose format was found from its first bytes."""

    path: Path
    label: str  # its name in messages and in results.runs
    file_format: Format
    is_generated: bool
    sha256: str
    seen: tuple[int, ...]  # identity, size and time of change, from before the digest was computed
    title_lines: int = 0  # above a CSV's header
    max_bytes: int = MAX_SOURCE_BYTES  # largest size when unpacked

    def check_unchanged(self) -> None:
        """Raises: InputError: the file has changed, so that its digest may not match what was read."""
        try:
            is_same = _seen(self.path.stat()) == self.seen
        except OSError:
            is_same = False
        if not is_same:
            raise InputError(f"{self.label}: changed while it was read. Give it again when it is complete.")

    def header(self) -> tuple[list[str], str]:
        """Reads the column names in order, and the line end of a CSV file in the form of DuckDB's new_line option.

        Raises: InputError: the file is no CSV, has another separator than commas, or has too many columns.
        """
        if self.file_format == "parquet":
            header, end = list(parquet.schema(self.path, self.label).names), ""
        else:
            header, end = self._text_header()
        if len(header) > MOST_COLUMNS:
            raise InputError(
                f"{self.label}: has {len(header):,} columns; {MOST_COLUMNS:,} are read at most. Keep those listed in "
                'docs/input.md, "Columns".'
            )
        return header, end

    def _text_header(self) -> tuple[list[str], str]:
        with self.content() as content:
            found = (one for one in records(content, self.label) if one[0] > self.title_lines)
            line, record, end = next(found, (1, b"", b""))
        try:
            text = record.decode() if line == self.title_lines + 1 else ""  # an empty line means that no names follow
            header = next(csv.reader([text], skipinitialspace=True), [])  # as DuckDB does
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
        """Opens the file's content, unpacked. Raises: InputError: it cannot be read or unpacked."""
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
        """The message on title lines above the header; None if there are none."""
        if not self.title_lines:
            return None
        lines = "line 1 is" if self.title_lines == 1 else f"lines 1 to {self.title_lines} are"
        return f"{lines} taken for a title, and line {self.title_lines + 1} for the header."

    def located(self, rows: Iterable[int]) -> Iterator[tuple[int, int, str]]:
        """Yields for data rows: the row number, the line in the file where the row begins, and its text.

        The text is cut at 10,000 characters. For a Parquet file, which has no lines, the line is the row number and the
        text is empty.

        Args: rows: numbers of data rows from 1, ascending, without duplicates.
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


@contextmanager
def opened(source: str, warehouse: Warehouse, max_bytes: int = MAX_SOURCE_BYTES) -> Iterator[SourceFile]:
    """Yields the local file of a source; a download is removed afterwards.

    Args: source: a path, a URL that fsspec can read, or `sample[:ROWS]`. max_bytes: largest size, also when unpacked.

    Raises: InputError: the source cannot be read, is empty, too large, or clearly neither CSV nor Parquet.
    """
    if (rows := sample_rows(source, max_bytes)) is not None:
        from tasks.ingest.sample import sample_file  # imports much of SciPy

        yield _inspect(sample_file(warehouse, rows), source, max_bytes, is_generated=True)
    elif local := local_file(source):
        yield _inspect(*local, max_bytes)
    else:
        label = public_name(source)
        temporary = warehouse.temporary("download")
        try:
            download(source, label, temporary, max_bytes)
            yield _inspect(temporary, label, max_bytes)
        finally:
            temporary.unlink(missing_ok=True)


def _inspect(path: Path, label: str, max_bytes: int, *, is_generated: bool = False) -> SourceFile:
    with regular_file(path, label) as file:
        try:
            seen = _seen(os.fstat(file.fileno()))
            size = seen[2]
            start = file.read(4096) if size else b""  # the kernel's virtual files have size 0, and may be endless
            file_format = _format(start, size, label, max_bytes)
            digest = hashlib.sha256(start)
            left = size - len(start)  # the rest of a growing file is not read
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
    """Returns the number of title lines above the header: nearly empty lines, followed by one with many values."""
    try:
        with file.content() as content:
            first = list(itertools.islice(records(content, file.label), MOST_TITLE_LINES + 1))
        filled = [_filled(record.decode()) for _, record, _ in first]
    except (UnicodeDecodeError, csv.Error):  # reported when the header is read
        return 0
    for number, (here, there) in enumerate(itertools.pairwise(filled)):
        if here > 2:
            break
        if there >= 3 * max(here, 1):
            return first[number + 1][0] - 1
    return 0


def _filled(record: str) -> int:
    """Returns how many values a line has; another separator than commas counts if it gives many values."""

    def values(separator: str) -> int:
        row = next(csv.reader([record], delimiter=separator, skipinitialspace=True), [])
        return sum(bool(cell.strip()) for cell in row)

    return max(values(","), *(n for n in map(values, OTHER_SEPARATORS) if n >= MIN_FEATURES), 0)


def _format(start: bytes, size: int, label: str, max_bytes: int) -> Format:
    """Returns the format of a file from its first bytes. Raises: InputError: a format that is not supported."""
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
