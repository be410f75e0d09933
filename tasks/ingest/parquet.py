"""Checks of a Parquet file before DuckDB reads it: a small file may expand to more data than fits on a disk."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import InputError, one_line
from tasks.storage import duck

FOOTER_BYTES = 8_000_000  # 8 times the footer of 10 million tracks in row groups of 16,384
VALUE_BYTES = 10_000


def schema(path: Path, label: str) -> pa.Schema:
    """Reads names and types of the columns. Raises: InputError: the file is damaged, or its footer is too long."""
    try:
        with path.open("rb") as file:
            file.seek(-8, 2)
            size = int.from_bytes(file.read(4), "little")
        if size > FOOTER_BYTES:
            raise InputError(
                f"{label}: has a footer of {size:,} bytes; {FOOTER_BYTES:,} are read at most. Write it with fewer "
                "columns, or larger row groups."
            )
        return pq.read_schema(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{label}: is not a readable Parquet file ({one_line(error)[:300]}).") from error


def check(
    connection: duckdb.DuckDBPyConnection, path: Path, names: Collection[str], types: pa.Schema, label: str, most: int
) -> None:
    """Checks that values are texts, numbers or lists of them, and not too long or too many.

    Args: path: the file for DuckDB to read. names: columns that are needed. types: as from `schema`. most: largest
        total size of all values as text, in bytes.

    Raises: InputError: a check fails. duckdb.Error: the file cannot be read.
    """
    if records := [name for name in names if not _is_plain(types.field(name).type)]:
        raise InputError(f"{label}: column '{records[0]}' holds records; it must be text, numbers or lists of them.")
    select = duck.render("raw/extent", columns=[duck.identifier(name) for name in names])
    [(longest, total)] = connection.execute(select, {"path": str(path)}).fetchall()
    for name, size in zip(names, longest, strict=True):
        if (size or 0) > VALUE_BYTES:
            raise InputError(
                f"{label}: column '{name}' has a value of {size:,} bytes; {VALUE_BYTES:,} are read at most."
            )
    if total > most:
        raise InputError(f"{label}: holds {total:,} bytes of text, more than the {most:,} of --max-source-bytes.")


def _is_plain(type_: pa.DataType) -> bool:
    """Whether values are texts or numbers, or lists of them, as catalogues have for artists and genres."""
    is_list = pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_)
    return not pa.types.is_nested(type_.value_type if is_list else type_)
