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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.addresses import has_secrets, public_name
from tasks.errors import DownloadError, InputError, UserError, one_line
from tasks.sample import DEFAULT_ROWS, sample_file
from tasks.warehouse import Warehouse

Format = Literal["csv", "gzip", "parquet"]
SAMPLE = re.compile(r"sample(?::(\d+))?")
CHUNK = 1 << 20
MOST_TITLE_LINES = 10
QUOTES_APART = re.compile(rb'" +"')
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

        Raises: InputError: the file is no CSV, or is separated by something else.
        """
        if self.file_format == "parquet":
            try:
                return list(pq.read_schema(self.path).names), ""
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"{self.label}: is not a readable Parquet file ({_first_line(error)}).") from error
        try:
            with self.text() as lines:
                consumed: list[str] = []
                reader = csv.reader(_remembering(lines, consumed), skipinitialspace=True)  # as DuckDB
                header = next(reader, [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(
                f"{self.label}: is not a CSV file in UTF-8 ({_first_line(error)}). Save it as UTF-8."
            ) from error
        for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if len(header) == 1 and header[0].count(separator) > 2:
                raise InputError(
                    f"{self.label}: its columns are separated by {name}, not by commas. Save it with commas."
                )
        end = re.search(r"[\r\n]*\Z", consumed[-1] if consumed else "")
        return header, repr(end[0] if end and end[0] else "\n")[1:-1]

    @contextmanager
    def text(self) -> Iterator[Iterator[str]]:
        """The file as text, from its header on; a byte order mark is left out."""
        with (
            gzip.open(self.path, "rt", encoding="utf-8-sig", newline="")
            if self.file_format == "gzip"
            else self.path.open(encoding="utf-8-sig", newline="") as lines
        ):
            yield itertools.islice(lines, self.title_lines, None)

    @property
    def title_note(self) -> str | None:
        """What is said of lines above the header."""
        if not self.title_lines:
            return None
        lines = "line 1 is" if self.title_lines == 1 else f"lines 1 to {self.title_lines} are"
        return f"{lines} taken for a title, and line {self.title_lines + 1} for the header."

    def located(self, rows: Iterable[int]) -> Iterator[tuple[int, int, str]]:
        """Of data rows counted from 1, one after the other: row, line in the file (the first of several) and text.

        A Parquet file has no lines: its rows are numbered instead, with empty text. Args: rows: ascending, each once.
        """
        if self.file_format == "parquet":
            yield from ((row, row, "") for row in rows)
            return
        wanted = iter(rows)
        sought = next(wanted, None)
        row, line = 0, 1 + self.title_lines
        with self.text() as lines:
            for number, (text, n_lines) in enumerate(_records(iter(lines))):
                if number and text.strip("\r\n"):  # empty lines are no rows, and the first record is the header
                    row += 1
                    if row == sought:
                        yield row, line, text.rstrip("\r\n")
                        sought = next(wanted, None)
                    if sought is None:
                        return
                line += n_lines


def sample_rows(source: str) -> int | None:
    """How many generated tracks `source` asks for; None: it is something else.

    Raises: UserError: it asks for the sample, but not for a number of rows.
    """
    if sample := SAMPLE.fullmatch(source):
        return int(sample[1] or DEFAULT_ROWS)
    if source.startswith("sample:"):
        raise UserError(f"--source {source}: sample[:ROWS] takes a whole number of rows.")
    return None


def check(source: str) -> None:
    """Raises: UserError: it is plain without reading anything that `source` cannot be read."""
    if sample_rows(source) is None and "://" not in source:
        path = Path(source).expanduser()
        try:
            path.stat()
        except OSError as error:
            raise _unreadable(path, one_line(path.name), error) from error


@contextmanager
def opened(source: str, warehouse: Warehouse) -> Iterator[SourceFile]:
    """The file behind `source`: a path, a URL that fsspec can read, or `sample[:ROWS]`. Downloads are removed.

    Raises: InputError: it cannot be read, is empty, or is plainly something else than CSV or Parquet.
    """
    if (rows := sample_rows(source)) is not None:
        yield _inspect(sample_file(warehouse, rows), source, is_generated=True)
    elif "://" in source:
        label = public_name(source)
        temporary = warehouse.temporary("download")
        try:
            _download(source, label, temporary)
            yield _inspect(temporary, label)
        finally:
            temporary.unlink(missing_ok=True)
    else:
        path = Path(source).expanduser()
        yield _inspect(path, one_line(path.name))


def _download(url: str, label: str, target: Path) -> None:
    failure: UserError | None = None
    try:
        filesystem, path = fsspec.url_to_fs(url)
        filesystem.get_file(path, str(target))
        if target.is_dir():
            target.rmdir()
            failure = InputError(f"{label}: is a folder, not a file.")
    except ImportError as error:
        failure = UserError(f"{label}: reading it needs another package ({error}).")
    except Exception as error:  # noqa: BLE001 - each of fsspec's file systems raises errors of its own
        failure = _refusal(error, label, quoting=not has_secrets(url))
    if failure:
        raise failure  # out here it has no cause or context, whose text a log would print, with the URL


def _refusal(error: Exception, label: str, *, quoting: bool) -> UserError:
    """What went wrong, without URLs: libraries quote them as they please, even those they are redirected to."""
    status = getattr(error, "status", None)
    kind = type(error).__name__
    if isinstance(error, FileNotFoundError):
        reason = "nothing is there"
    elif isinstance(status, int) and status:
        reason = f"the server answered {status}"
    else:
        reason = f"{kind}: {re.sub('://[^ ]+', '://...', _first_line(error))}" if quoting else kind
    is_final = isinstance(error, FileNotFoundError | ValueError) or status in {400, 401, 403, 404, 410}
    return (InputError if is_final else DownloadError)(f"{label}: cannot be downloaded ({reason}).")


def _inspect(path: Path, label: str, *, is_generated: bool = False) -> SourceFile:
    try:
        with path.open("rb") as file:
            seen = _seen(os.fstat(file.fileno()))
            start = file.read(4096)
            digest = hashlib.sha256(start)
            for chunk in iter(lambda: file.read(CHUNK), b""):
                digest.update(chunk)
    except OSError as error:
        raise _unreadable(path, label, error) from error
    if not start:
        raise InputError(f"{label}: is empty.")
    file_format: Format = "csv"
    if start[:4] == b"PAR1":
        file_format = "parquet"
    elif start[:2] == b"\x1f\x8b":
        file_format = "gzip"
    elif start[:2] == b"PK":
        raise InputError(f"{label}: is a ZIP archive or an Excel workbook. Unpack it, or save it as CSV.")
    elif start[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise InputError(f"{label}: is in UTF-16. Save it as UTF-8.")
    elif b"\x00" in start:
        raise InputError(
            f"{label}: is neither a CSV nor a Parquet file (it holds zero bytes; the first: {start[:8].hex(' ')})."
        )
    source = SourceFile(path, label, file_format, is_generated, digest.hexdigest(), seen)
    if file_format == "parquet":
        return source
    _check_text(source)
    return replace(source, title_lines=_title_lines(source))


def _title_lines(file: SourceFile) -> int:
    """How many lines stand above the header: with next to nothing in them, followed by one with many names."""
    try:
        with file.text() as lines:
            rows = list(itertools.islice(csv.reader(lines, skipinitialspace=True), MOST_TITLE_LINES + 1))
    except (UnicodeDecodeError, csv.Error):  # told when the header is read
        return 0
    filled = [sum(bool(cell.strip()) for cell in row) for row in rows]
    for number, (here, there) in enumerate(itertools.pairwise(filled)):
        if here > 2:
            break
        if there >= 3 * max(here, 1) and not any(here_too > 2 for here_too in filled[:number]):
            return number + 1
    return 0


def _unreadable(path: Path, label: str, error: OSError) -> InputError:
    return InputError(f"{label}: cannot be read ({error.strerror}: {path}).")


def _seen(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _check_text(file: SourceFile) -> None:
    """Refuse what DuckDB would read as something else without a word.

    It does not look at a gzip file's checksum, and reads `"a" "b"` as one value. Other misplaced quotes it refuses.
    """
    is_suspect = False
    before = b""
    try:
        with gzip.open(file.path) if file.file_format == "gzip" else file.path.open("rb") as content:
            while chunk := content.read(CHUNK):
                text = before + chunk
                is_suspect = is_suspect or QUOTES_APART.search(text) is not None
                before = text[max(0, len(text.rstrip(b" ")) - 1) :]
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{file.label}: is a damaged gzip file ({_first_line(error)}). Compress or fetch it again."
        ) from error
    if not is_suspect:
        return
    with file.text() as lines, suppress(UnicodeDecodeError):  # which DuckDB refuses, with its line
        reader = csv.reader(lines, strict=True, skipinitialspace=True)
        try:
            for _ in reader:
                pass
        except csv.Error as error:
            raise InputError(
                f"{file.label}: line {reader.line_num}: text after a closing quote. Double the quotes within values."
            ) from error


def _records(lines: Iterator[str]) -> Iterator[tuple[str, int]]:
    """Each record's text and how many lines it takes. Only one with a quote can take several, or needs parsing."""
    for text in lines:
        if '"' not in text:
            yield text, 1
        else:
            consumed: list[str] = []
            remembered = _remembering(itertools.chain([text], lines), consumed)
            next(csv.reader(remembered, skipinitialspace=True), None)  # as DuckDB
            yield "".join(consumed), len(consumed)


def _remembering(lines: Iterable[str], consumed: list[str]) -> Iterator[str]:
    for line in lines:
        consumed.append(line)
        yield line


def _first_line(error: object) -> str:
    return next(itertools.chain(str(error).splitlines(), [type(error).__name__]))[:300]
