"""DuckDB connections and the SELECTs of `sql/`, which run in memory over Parquet files."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
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
from tasks.specs import AUDIO_FEATURES, HEADLINES, METRICS, MISSING, STUDY_SEED
from tasks.storage.folder_store import temporary_in

SQL_ROOT = Path(__file__).resolve().parents[2] / "sql"
OPENING = threading.Lock()
MEMORY_LIMIT = "2GB"  # of a process that prepares features, unless $MUSIC_MEMORY_LIMIT says otherwise
LEAST_MIB = 150  # of DuckDB; with less even small files fail
DUCKDB_SHARE = 0.6  # of that limit; Python has the rest, mostly for track ids while rows are split
SPILL_LIMIT = "10GB"  # of a query of the published database, unless $MUSIC_SPILL_LIMIT says otherwise
MANY_ROWS = 500_000
# Lists of metrics for `in (...)`.
HEADLINE_NAMES = ", ".join(f"'{metric.name}'" for metric in HEADLINES.values())
LOWER_IS_BETTER = ", ".join(f"'{metric.name}'" for metric in METRICS.values() if not metric.higher_is_better)
Contents = dict[tuple[str, str], tuple[object, ...]]
ADDED: dict[str, str] = {}  # SELECTs of plug-ins, by names as below `sql/`
UPSTREAM = re.compile(r"\b(?:raw|staging|features)\.\w+")


def connect(database: str | Path = ":memory:", spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    """Returns a connection to a separate DuckDB instance with the project's schemas and no progress bar.

    Args: database: a file, by default in memory. spill: the folder for data that does not fit into memory.

    Raises: UserError: $MUSIC_MEMORY_LIMIT is not a size.
    """
    config: dict[str, str | bool | int | float | list[str]] = {"memory_limit": f"{memory_mib()}MiB"}
    if spill is not None:
        config["temp_directory"] = str(spill)
    connection = duckdb.connect(str(database), config=config)
    _prepare(connection)
    return connection


@contextmanager
def connect_to_read(database: Path, spill: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yields a read-only connection to a database file, within the memory limit; its spill files are removed.

    Args: spill: the folder below which data spills that does not fit into memory, at most `$MUSIC_SPILL_LIMIT`.

    Raises: UserError: a limit is not a size.
    """
    folder = temporary_in(spill, "spill")
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
    """Returns DuckDB's share of the process's memory limit (`$MUSIC_MEMORY_LIMIT`, by default 2GB), in MiB.

    Raises: UserError: the variable is not a size, or is too small for DuckDB.
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
    """Yields a connection to an empty in-memory database with the project's schemas, dropped when the block ends.

    It is attached to the one DuckDB instance of this process, because opening another takes 20 ms. It has the macro
    is_missing(text): whether a text means a missing value. Args: as for `connect`.
    """
    name = f"workspace_{uuid.uuid4().hex}"
    with _process_instance(spill).cursor() as connection:
        connection.execute(f"attach ':memory:' as {name}")
        connection.execute(f"use {name}")
        _prepare(connection)
        _define_macros(connection)
        try:
            yield connection
        finally:
            connection.execute("use memory")
            connection.execute(f"detach {name}")


def for_few_rows() -> duckdb.DuckDBPyConnection:
    """Returns a connection to a separate in-memory instance like a `workspace`, in which few rows take least time.

    It has one thread, and compares values with the lists of `in (...)` one by one: threads and joins only pay off for
    many rows. Raises: as for `connect`.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{memory_mib()}MiB",
        "threads": 1,
        "disabled_optimizers": "in_clause",
    }
    connection = duckdb.connect(config=config)
    _prepare(connection)
    _define_macros(connection)
    return connection


@contextmanager
def opening(spill: Path) -> Iterator[None]:
    """Opens this process's DuckDB in a thread while the block does other work. Args, Raises: as for `connect`."""
    memory_mib()  # raises here rather than in the thread
    thread = threading.Thread(target=_process_instance, args=(spill,))
    thread.start()
    try:
        yield
    finally:
        thread.join()


def cursor(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """Returns another connection to the same workspace, for another thread."""
    other = connection.cursor()
    other.execute("set enable_progress_bar = false")
    other.execute(f"use {catalog(connection)}")
    return other


def catalog(connection: duckdb.DuckDBPyConnection) -> str:
    """Returns the name of the database that a connection works in."""
    return str(connection.execute("select current_catalog()").fetchall()[0][0])


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


def _define_macros(connection: duckdb.DuckDBPyConnection) -> None:
    markers = ", ".join(map(literal, MISSING))
    connection.execute(f"create macro is_missing(text) as coalesce(lower(trim(text)) in ({markers}), true)")


def identifier(name: str) -> str:
    """Returns a name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str | Path) -> str:
    """Returns a text quoted for SQL, for the few places where DuckDB cannot bind a value."""
    return "'" + str(text).replace("'", "''") + "'"


def has_select(name: str) -> bool:
    """Whether there is a SELECT of that name, in `sql/` or added."""
    return name in ADDED or (SQL_ROOT / f"{name}.sql").is_file()


def source(name: str) -> str:
    """Returns the text of `sql/<name>.sql`, with comments and template tags."""
    return ADDED[name] if name in ADDED else (SQL_ROOT / f"{name}.sql").read_text(encoding="utf-8")


def code(name: str) -> str:
    """Returns `sql/<name>.sql` without comments and layout: the part that decides its rows."""
    return " ".join(re.sub(r"--.*", "", source(name)).split())


def render(name: str, **columns: object) -> str:
    """Returns the SELECT of `sql/<name>.sql` with its template filled in; values are bound later, as `$name`.

    Args: columns: the template's variables, mostly lists of columns; names from data must be quoted by `identifier`.
    """
    return (
        _templates()
        .get_template(f"{name}.sql")
        .render(
            audio_features=AUDIO_FEATURES,
            study_seed=STUDY_SEED,
            headlines=HEADLINE_NAMES,
            lower_is_better=LOWER_IS_BETTER,
            **columns,
        )
    )


def dynamic_columns(select: str, connection: duckdb.DuckDBPyConnection) -> dict[str, object]:
    """Returns the column lists of a SELECT that depend on the data. Args: select: its name below sql/."""
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
    """Returns the tables that a SELECT reads, as `schema.table`, sorted."""
    return sorted(set(UPSTREAM.findall(code(name))))


def bound(sql: str, values: dict[str, object]) -> dict[str, object]:
    """Returns only the values that `sql` names, because DuckDB refuses others."""
    return {name: value for name, value in values.items() if re.search(rf"\${name}\b", sql)}


def view(connection: duckdb.DuckDBPyConnection, name: str, *files: str | Path) -> None:
    """Creates the view `schema.table` over Parquet files, by path or URL; a column that a file lacks is NULL there."""
    paths = ", ".join(literal(file) for file in files)
    connection.execute(
        f"create or replace view {name} as select * from read_parquet([{paths}], "
        "hive_partitioning = false, union_by_name = true)"
    )


def contents(connection: duckdb.DuckDBPyConnection) -> Contents:
    """Returns a summary of a database by (schema, name): a table's row count and digest, or a view's SELECT.

    Every row is read, so that DuckDB verifies the checksum of every block of the file.
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
    """Returns the statement that writes a SELECT's rows as Parquet, in row groups that several cores can share.

    Args: about_rows: estimated number of rows; many rows are written in larger groups, which is faster. is_ordered:
        whether many rows keep their order, for which threads wait for one another; few always do.
    """
    group = 16_384 if about_rows < MANY_ROWS else 65_536
    order = "true" if is_ordered or about_rows < MANY_ROWS else "false"
    return (
        f"copy ({select}) to {literal(path)} (format parquet, compression snappy, "
        f"row_group_size {group}, dictionary_size_limit {group // 8}, preserve_order {order})"
    )


def digest(*parts: object) -> str:
    """Returns the first 16 hex digits of the SHA-256 of the parts' texts: a short stable identifier."""
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()[:16]


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [
                jinja2.FunctionLoader(lambda file: ADDED.get(file.removesuffix(".sql"))),
                jinja2.FileSystemLoader(SQL_ROOT),
            ]
        ),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
    )
