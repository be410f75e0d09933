"""DuckDB as used here: in memory, over Parquet files, running the SELECTs of `sql/`."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path

import duckdb
import jinja2
from pydantic import ByteSize, TypeAdapter, ValidationError

from tasks.errors import UserError
from tasks.specs import AUDIO_FEATURES, HEADLINES, METRICS, MISSING

SQL_ROOT = Path(__file__).resolve().parents[2] / "sql"
OPENING = threading.Lock()
MEMORY_LIMIT = "2GB"  # of a process that prepares features, unless $MUSIC_MEMORY_LIMIT says otherwise
LEAST_MIB = 150  # for DuckDB, below which small files fail, too
DUCKDB_SHARE = 0.6  # of it; the rest is for Python, and for the ids that it holds while it splits rows
SPILL_LIMIT = "10GB"  # of a question to the published database, unless $MUSIC_SPILL_LIMIT says otherwise
MANY_ROWS = 500_000
# Lists of metrics for `in (...)`.
HEADLINE_NAMES = ", ".join(f"'{metric.name}'" for metric in HEADLINES.values())
LOWER_IS_BETTER = ", ".join(f"'{metric.name}'" for metric in METRICS.values() if not metric.higher_is_better)
Contents = dict[tuple[str, str], tuple[object, ...]]
UPSTREAM = re.compile(r"\b(?:raw|staging|features)\.\w+")


def connect(database: str | Path = ":memory:", spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A connection to a DuckDB of its own with the project's schemas, silent and in file order.

    Args: database: a file, or in memory. spill: where what does not fit into memory goes.
    Raises: UserError: $MUSIC_MEMORY_LIMIT is no size.
    """
    config: dict[str, str | bool | int | float | list[str]] = {"memory_limit": f"{memory_mib()}MiB"}
    if spill is not None:
        config["temp_directory"] = str(spill)
    connection = duckdb.connect(str(database), config=config)
    _prepare(connection)
    return connection


@contextmanager
def connect_to_read(database: Path, spill: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a database file that is only read, within the memory limit; what it spills goes with it.

    Args: spill: the folder below which what does not fit into memory goes, at most `$MUSIC_SPILL_LIMIT` of it.
    Raises: UserError: a limit is no size.
    """
    folder = spill / f"spill-{uuid.uuid4().hex[:8]}.{socket.gethostname()}.{os.getpid()}.tmp"
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{memory_mib()}MiB",
        "temp_directory": str(folder),
        "max_temp_directory_size": f"{_mib('MUSIC_SPILL_LIMIT', SPILL_LIMIT)}MiB",
    }
    try:
        with duckdb.connect(str(database), read_only=True, config=config) as connection:
            connection.execute("set enable_progress_bar = false")
            yield connection
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def memory_mib() -> int:
    """What DuckDB may use of the process's memory limit, `$MUSIC_MEMORY_LIMIT` or 2GB, in MiB.

    Raises: UserError: the variable is no size, or leaves DuckDB less than it needs.
    """
    mib = int(DUCKDB_SHARE * _mib("MUSIC_MEMORY_LIMIT", MEMORY_LIMIT))
    if mib < LEAST_MIB:
        raise UserError(
            f"$MUSIC_MEMORY_LIMIT is '{os.environ.get('MUSIC_MEMORY_LIMIT')}'; at least "
            f"{LEAST_MIB / DUCKDB_SHARE:.0f}MiB are needed."
        )
    return mib


def _mib(variable: str, default: str) -> float:
    limit = os.environ.get(variable) or default
    try:
        return TypeAdapter(ByteSize).validate_python(limit) / 2**20
    except ValidationError:
        raise UserError(f"${variable} is '{limit}'; it must be a size such as 2GB or 500MiB.") from None


@contextmanager
def workspace(spill: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty in-memory database with the project's schemas, gone when the block ends.

    It is attached to this process's one in-memory DuckDB, which takes 20 ms to open and close. SELECTs may ask it
    is_missing(text): whether a text says that there is no value. Args: as `connect`.
    """
    name = f"workspace_{uuid.uuid4().hex}"
    with _process_instance(spill).cursor() as connection:
        connection.execute(f"attach ':memory:' as {name}")
        connection.execute(f"use {name}")
        _prepare(connection)
        markers = ", ".join(map(literal, MISSING))
        connection.execute(f"create macro is_missing(text) as coalesce(lower(trim(text)) in ({markers}), true)")
        try:
            yield connection
        finally:
            connection.execute("use memory")
            connection.execute(f"detach {name}")


@contextmanager
def opening(spill: Path) -> Iterator[None]:
    """Open this process's DuckDB while the block begins with something else. Args, Raises: as `connect`."""
    memory_mib()  # told here rather than by the thread
    thread = threading.Thread(target=_process_instance, args=(spill,))
    thread.start()
    try:
        yield
    finally:
        thread.join()


def cursor(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """Another connection to the same workspace, for another thread."""
    other = connection.cursor()
    other.execute("set enable_progress_bar = false")
    other.execute(f"use {connection.execute('select current_catalog()').fetchall()[0][0]}")
    return other


def _process_instance(spill: Path) -> duckdb.DuckDBPyConnection:
    with OPENING:
        return _opened(spill, memory_mib())


@lru_cache(maxsize=1)
def _opened(spill: Path, limit: int) -> duckdb.DuckDBPyConnection:
    return connect(spill=spill)


def _prepare(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("set enable_progress_bar = false")
    for schema in ("raw", "staging", "features", "results"):
        connection.execute(f"create schema if not exists {schema}")


def identifier(name: str) -> str:
    """A name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str | Path) -> str:
    """A text quoted for SQL, for the few places where DuckDB cannot bind a value."""
    return "'" + str(text).replace("'", "''") + "'"


def source(name: str) -> str:
    """The text of `sql/<name>.sql` as committed."""
    return (SQL_ROOT / f"{name}.sql").read_text(encoding="utf-8")


def code(name: str) -> str:
    """What of `sql/<name>.sql` decides its rows: comments and layout do not."""
    return " ".join(re.sub(r"--.*", "", source(name)).split())


def render(name: str, **columns: object) -> str:
    """The SELECT of `sql/<name>.sql`. Templates list columns; values are bound as `$name`.

    Args: columns: what the template loops over; names from data must come quoted by `identifier`.
    """
    return (
        _templates()
        .get_template(f"{name}.sql")
        .render(audio_features=AUDIO_FEATURES, headlines=HEADLINE_NAMES, lower_is_better=LOWER_IS_BETTER, **columns)
    )


def dynamic_columns(select: str, connection: duckdb.DuckDBPyConnection) -> dict[str, object]:
    """The column lists that depend on the data, for the SELECTs that have one (name: below sql/)."""
    text = code(select)
    columns: dict[str, object] = {}
    if re.search(r"\bin genres\b", text):
        mapping = connection.execute(
            "select genre_id, column_name from features.genre_mapping where music_genre is not null order by genre_id"
        )
        columns["genres"] = [(genre_id, identifier(name)) for genre_id, name in mapping.fetchall()]
    if re.search(r"\bin components\b", text):
        found = connection.execute("select distinct statistic from features.pca_loadings").fetchall()
        names = [name for (name,) in found if name.startswith("pc")]
        columns["components"] = sorted(names, key=lambda name: int(name[2:]))
    return columns


def upstream(name: str) -> list[str]:
    """The tables a SELECT reads, as `schema.table`, sorted."""
    return sorted(set(UPSTREAM.findall(code(name))))


def bound(sql: str, values: dict[str, object]) -> dict[str, object]:
    """The values of those that `sql` names: DuckDB refuses more than it needs."""
    return {name: value for name, value in values.items() if re.search(rf"\${name}\b", sql)}


def view(connection: duckdb.DuckDBPyConnection, name: str, *files: str | Path) -> None:
    """Make `schema.table` a view over Parquet files, by path or URL; a column that some of them lack is NULL there."""
    paths = ", ".join(literal(file) for file in files)
    connection.execute(
        f"create or replace view {name} as select * from read_parquet([{paths}], "
        "hive_partitioning = false, union_by_name = true)"
    )


def contents(connection: duckdb.DuckDBPyConnection) -> Contents:
    """What a database holds: of each table how many rows there are and a digest of them, of each view its SELECT.

    Every row is read, and with it every block of the file, whose checksums DuckDB compares.
    """
    found: Contents = {}
    for schema, name, sql in connection.execute(
        "select schema_name, view_name, sql from duckdb_views() where not internal and not temporary"
    ).fetchall():
        found[schema, name] = (sql,)
    for schema, name in connection.execute(
        "select schema_name, table_name from duckdb_tables() where not temporary"
    ).fetchall():
        table = f"{identifier(schema)}.{identifier(name)}"
        digest_of_rows = f"select count(*), cast(bit_xor(hash(given)) as varchar) from {table} as given"
        [found[schema, name]] = connection.execute(digest_of_rows).fetchall()
    return found


def copy(select: str, path: Path, about_rows: int, *, is_ordered: bool = True) -> str:
    """The statement that writes a SELECT's rows as Parquet, in groups that several cores can share.

    Args: about_rows: how many there will be, more or less; many take less time in larger groups. is_ordered: whether
        many are stored in the order in which they were read, for which threads wait for one another.
    """
    group = 16_384 if about_rows < MANY_ROWS else 65_536
    order = "true" if is_ordered or about_rows < MANY_ROWS else "false"
    return (
        f"copy ({select}) to {literal(path)} (format parquet, compression snappy, "
        f"row_group_size {group}, dictionary_size_limit {group // 8}, preserve_order {order})"
    )


def digest(*parts: object) -> str:
    """A short stable name for anything with a stable text: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()[:16]


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(SQL_ROOT), undefined=jinja2.StrictUndefined, autoescape=False
    )
