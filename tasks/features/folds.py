"""The features of a cross-validation: each fold's own statistics, and its rows, which are made where they are read.

Two tables are stored for a protocol, a number of folds and a seed: which part each track is in
(features.fold_assignment), and the fill values, scaling and components of each fold (features.fold_statistics), learnt
from that fold's training rows by the SELECTs that make the tables of the single split. The rows of a fold are those of
staging.stg_tracks with these statistics applied, again by the same SELECTs. So K folds take little more room than none.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.errors import InputError, ProtocolError, UserError, one_line
from tasks.features import checks
from tasks.features.full_build import REFITTED_TABLE, STATISTICS_TABLE, refit
from tasks.features.registry import BuiltTable, read_registry, register
from tasks.features.splits import grouped_split
from tasks.features.tables import BRIDGES, Chosen, Table, check_finite, every_table, table_version, template_values
from tasks.ingest.snapshots import Snapshot
from tasks.specs import STUDY_SEED, Folds, Protocol, protocol_named
from tasks.storage import duck
from tasks.storage.damage import is_whole
from tasks.storage.warehouse import Warehouse

ASSIGNMENT = "features.fold_assignment"
STATISTICS = "features.fold_statistics"
SPLIT = "features.split_assignment"
FITTED = ("features.fill_values", "features.scaling", "features.pca_loadings")
# What decides a fold's statistics and, with them, its rows. Tables of other rows have a version of their own.
LEARNT = (*FITTED, SPLIT, "features.tracks_clean", "features.tracks_std")
STORED = ("staging.stg_tracks", "features.genre_mapping", ASSIGNMENT, STATISTICS)  # what a fold's rows are made of


def build_folds(
    snapshot: Snapshot, protocol: Protocol, folds: Folds, chosen: Chosen, tables: list[BuiltTable], warehouse: Warehouse
) -> list[BuiltTable]:
    """Makes the two tables of a protocol's cross-validation, unless they are stored, and checks each fold's tables.

    Args: tables: those of the protocol's single split, from which the folds' are made.

    Raises:
        UserError: the snapshot's statistics were kept from another, so that its tracks have no folds.
        InputError: there are too few tracks, or too few groups of them, for so many folds.
        CheckError: a fold's tables break one of the protocol's rules (sql/checks/).
    """
    if snapshot.statistics == "kept":
        raise UserError(
            f"{snapshot.source} was appended with --statistics kept, so that val and test rows stay as they were. A "
            "cross-validation divides all tracks anew: append with --statistics relearned, or leave out --folds."
        )
    values = {"protocol": protocol.name, **chosen}
    versions = _versions(protocol, folds, values, tables)
    by_fold = {fold: versions | {"fold": str(fold)} for fold in range(1, folds.number + 1)}
    with warehouse.lock("features"), duck.workspace(spill=warehouse.scratch) as connection:
        registered = {(row.table_name, row.version): row for row in read_registry(warehouse)}
        stored = {name: registered.get((name, versions[name])) for name in (ASSIGNMENT, STATISTICS)}
        kept = {name: row for name, row in stored.items() if row and is_whole(warehouse.root / row.path, warehouse)}
        if len(kept) == len(stored) and not any(checks.due(protocol, of, warehouse) for of in by_fold.values()):
            return list(kept.values())

        def store(name: str, made: pa.Table, started: float) -> BuiltTable:
            read = [versions[at] for at in (*STORED[:2], ASSIGNMENT) if at != name]
            return kept.get(name) or _store(name, made, protocol, versions[name], read, snapshot, warehouse, started)

        for table in tables:
            if table.protocol is None:
                duck.view(connection, table.table_name, *warehouse.parts(table.path))
        started = time.perf_counter()
        assigned = store(ASSIGNMENT, _divided(connection, protocol, folds), started)
        duck.view(connection, ASSIGNMENT, warehouse.here(assigned.path))
        started = time.perf_counter()
        learnt = []
        for fold, of in by_fold.items():
            _make(connection, protocol, values | {"fold": fold})
            _check_genres(protocol, fold, folds.number, connection)
            connection.execute(f"create or replace view {STATISTICS_TABLE} as {duck.render('features/statistics')}")
            due = checks.due(protocol, of, warehouse)
            if any(REFITTED_TABLE in duck.upstream(name) for name in due):
                refit(connection, protocol, values, warehouse)
            for name in due:
                checks.run(name, protocol, of, warehouse, connection)
            of_fold = connection.sql(f"select *, {folds.number} as folds, {fold} as fold from {STATISTICS_TABLE}")
            learnt.append(_with_seed(of_fold.to_arrow_table(), folds))
        return [assigned, store(STATISTICS, pa.concat_tables(learnt), started)]


def rows_of(
    table: str, protocol: str, fold: int, stored: Mapping[str, Path], connection: duckdb.DuckDBPyConnection
) -> None:
    """Makes a fold's feature table, by its usual name, and features.split_assignment.

    Args: table: its name. stored: the files of the tables named in STORED. connection: to an empty workspace.

    Raises: CheckError: an expression of a feature set has no finite value for some track of this fold.
    """
    for name, path in stored.items():
        duck.view(connection, name, path)
    fitted = {
        "features.fill_values": "statistic = 'fill'",
        "features.scaling": "statistic in ('mean', 'std')",
        "features.pca_loadings": "statistic like 'pc%' or statistic = 'explained_variance_ratio'",
    }
    for name, condition in fitted.items():
        connection.execute(
            f"create view {name} as select * exclude (folds, fold) from {STATISTICS} "
            f"where fold = {fold} and ({condition})"
        )
    spec = protocol_named(protocol)
    wanted = {table, SPLIT}
    for made in reversed(_tables()):
        if made.name in wanted:
            wanted |= set(made.upstream(spec))
    _make(connection, spec, {"protocol": protocol, "fold": fold}, wanted - {*FITTED})
    for made in _tables():
        if made.name == table and made.expressions:
            check_finite(made, spec, table, connection)


def version_of(table: str, protocol: str, fold: int, statistics: str) -> str:
    """Returns the version of a fold's feature table. Args: statistics: that of features.fold_statistics."""
    [made] = [one for one in _tables() if one.name == table]
    return table_version(made, protocol_named(protocol), {"protocol": protocol, "fold": fold}, [statistics, str(fold)])


def _tables() -> list[Table]:
    """Returns the tables that each fold has of its own, in order."""
    split = Table(name=SPLIT, sql=lambda _: "features/fold_split")
    return [split if table.name == SPLIT else table for table in every_table() if table.is_by_protocol]


def _versions(protocol: Protocol, folds: Folds, values: dict[str, object], tables: list[BuiltTable]) -> dict[str, str]:
    """Returns the versions of the tables that the folds' are made from, and of what is stored, by table name."""
    versions = {table.table_name: table.version for table in tables}
    rules = [inspect.getsource(code) for code in (fold_parts, _stratified_parts, _assignment)]
    decided: list[object] = [folds.number, versions[SPLIT], rules, duck.code("features/fold_split")]
    if folds.seed != STUDY_SEED:
        decided += [folds.seed, *(inspect.getsource(code) for code in (_divided, _reordered))]
    versions[ASSIGNMENT] = duck.digest(ASSIGNMENT, *decided)
    read = [versions[name] for name in (*STORED[:2], ASSIGNMENT)]
    learnt = [table_version(table, protocol, values, read) for table in _tables() if table.name in LEARNT]
    rules = [inspect.getsource(code) for code in (_tables, _make, rows_of)]
    return versions | {STATISTICS: duck.digest(STATISTICS, learnt, rules)}


def fold_parts(protocol: Protocol, tracks: pa.Table, folds: int) -> pa.Table:
    """Assigns tracks to the parts of a cross-validation: two for each fold, all of about the same size.

    The parts of an honest protocol keep its promise: groups are whole under a grouped split; every part is stratified
    by genre, as near as the groups allow. sql/features/fold_split.sql makes each fold's split of them.

    Args: tracks: as for tasks.features.splits.split_tracks. folds: their number.

    Returns: track_id, part (from 0), position (of the row among all, in random order) and group_id.

    Raises: InputError: a part would have no rows, or, stratified, not every genre.
    """
    genre, ids = tracks["genre_id"].to_numpy(), tracks["track_id"].to_numpy()
    names = [str(part) for part in range(2 * folds)]
    if protocol.split == "grouped":
        group = tracks["group_id"].to_numpy()
        try:
            parts = grouped_split(genre, group, dict.fromkeys(names, 1 / len(names)))
        except ProtocolError:
            raise InputError(
                f"{folds} folds are not possible under {protocol.name}: the {len(genre)} usable rows are in "
                f"{len(np.unique(group))} group(s) linked by artist or recording, and at least {len(names)} are "
                "needed. Ask for fewer --folds."
            ) from None
        order = np.arange(len(genre))  # does not depend on the file's already
    else:
        group = ids
        parts = _stratified_parts(genre, names)
        order = np.random.default_rng(STUDY_SEED).permutation(len(genre))
    part = np.empty(len(genre), dtype=np.int64)
    for number, name in enumerate(names):
        part[parts[name]] = number
    return pa.table(
        {"track_id": ids[order], "part": part[order], "position": np.arange(len(genre)), "group_id": group[order]}
    )


def _stratified_parts(genre: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    """Splits rows into parts of the same size, stratified by genre. Raises: InputError: a genre has too few rows."""
    from sklearn.model_selection import StratifiedKFold

    fewest = int(np.bincount(genre)[np.unique(genre)].min())
    if fewest < len(names):
        raise InputError(
            f"{len(names) // 2} folds need at least {len(names)} rows of each genre; one has {fewest}. "
            "Ask for fewer --folds, or drop rare genres with --min-genre-rows."
        )
    parts = StratifiedKFold(len(names), shuffle=True, random_state=STUDY_SEED)
    return {name: rows for name, (_, rows) in zip(names, parts.split(genre, genre), strict=True)}


def _assignment(connection: duckdb.DuckDBPyConnection, protocol: Protocol, folds: int) -> pa.Table:
    """Returns features.fold_assignment of a protocol. A track that would link two parts has none."""
    [split] = [table for table in every_table() if table.name == SPLIT]
    tracks = connection.sql(duck.render(split.select(protocol))).to_arrow_table()
    assigned = fold_parts(protocol, tracks, folds)
    if "is_cut" in tracks.column_names and pc.any(tracks["is_cut"]).as_py():
        connection.register("assigned", assigned.rename_columns({"part": "split"}))
        bridges = pl.DataFrame(connection.sql(duck.render(BRIDGES)).to_arrow_table())["track_id"]
        connection.unregister("assigned")
        is_bridge = pl.col("track_id").is_in(bridges.implode())
        part = pl.when(~is_bridge).then("part").alias("part")
        frame = pl.DataFrame(assigned).with_columns(part)
        if frame["part"].n_unique() < 2 * folds + frame["part"].has_nulls():
            raise InputError(
                f"{folds} folds are not possible under {protocol.name}: chains of shared artists link nearly all "
                "tracks, and without those that link two folds nothing is left of one. Ask for fewer --folds."
            )
        assigned = frame.to_arrow()
    n = assigned.num_rows
    return assigned.add_column(0, "folds", pa.repeat(folds, n)).add_column(0, "protocol", pa.repeat(protocol.name, n))


def _divided(connection: duckdb.DuckDBPyConnection, protocol: Protocol, folds: Folds) -> pa.Table:
    """Returns features.fold_assignment of a protocol, by the seed of the folds.

    Another seed than the study's divides the tracks in another order. Then groups of the same size change their parts,
    and with them smaller ones. The largest groups are few and come first, so that most of them would stay where they
    are. So the parts are shuffled, too, which gives other folds of them.
    """
    if folds.seed == STUDY_SEED:
        return _assignment(connection, protocol, folds.number)
    with _reordered(connection, folds.seed):
        assigned = _assignment(connection, protocol, folds.number)
    shuffled = pa.array(np.random.default_rng(folds.seed).permutation(2 * folds.number))
    part = assigned.column_names.index("part")
    return _with_seed(assigned.set_column(part, "part", shuffled.take(assigned["part"])), folds)


@contextmanager
def _reordered(connection: duckdb.DuckDBPyConnection, seed: int) -> Iterator[None]:
    """Has the SELECTs that a split reads (sql/features/*split_input.sql) return the tracks in an order of the seed."""
    orders = {"staging.stg_tracks": "row_number", "features.track_groups": "content_hash"}
    shown = connection.execute("select schema_name || '.' || view_name from duckdb_views()").fetchall()
    orders = {name: column for name, column in orders.items() if (name,) in shown}
    for name, column in orders.items():
        connection.execute(f"alter view {name} rename to {name.split('.')[1]}_unordered")
        connection.execute(
            f"create view {name} as select * replace "
            f"(md5_number_lower(concat_ws('|', {seed}, {column})) as {column}) from {name}_unordered"
        )
    yield
    for name in orders:
        connection.execute(f"drop view {name}")
        connection.execute(f"alter view {name}_unordered rename to {name.split('.')[1]}")


def _with_seed(table: pa.Table, folds: Folds) -> pa.Table:
    """Adds fold_seed to a stored table; those of the study's seed lack it, as they did before there were others."""
    if folds.seed == STUDY_SEED:
        return table
    return table.append_column("fold_seed", pa.repeat(folds.seed, table.num_rows))


def left_out(tables: list[BuiltTable], warehouse: Warehouse) -> list[str]:
    """Returns a line for each protocol whose folds leave tracks out."""
    lines = []
    for row in tables:
        if row.table_name == ASSIGNMENT:
            parts = pq.read_table(warehouse.here(row.path), columns=["folds", "part"])
            if n := parts["part"].null_count:
                lines.append(
                    f"{row.protocol}, {parts['folds'][0]} folds: {n:,} of {len(parts):,} tracks have artists of "
                    "several folds and are left out of all, because chains of shared artists link nearly all tracks"
                )
    return lines


def _check_genres(protocol: Protocol, fold: int, folds: int, connection: duckdb.DuckDBPyConnection) -> None:
    """Raises: InputError: a genre has no training track in a fold; its models could not know the genre."""
    missing = connection.execute(
        """
        select music_genre from features.genre_mapping
        where genre_id not in (select genre_id from features.tracks_clean where split = 'train')
        order by genre_id
        """
    ).fetchall()
    if missing:
        genre = one_line(str(missing[0][0]))
        raise InputError(
            f"{folds} folds are not possible under {protocol.name}: in fold {fold} no training track is of genre "
            f"'{genre}', whose artists are all in one or two folds. Ask for fewer --folds, or drop rare genres with "
            "--min-genre-rows."
        )


def _make(
    connection: duckdb.DuckDBPyConnection,
    protocol: Protocol,
    values: dict[str, object],
    names: Collection[str] | None = None,
) -> None:
    """Makes a fold's tables in memory. Args: values: also the fold. names: of the tables, by default all."""
    for table in _tables():
        if names is not None and table.name not in names:
            continue
        source = table.select(protocol)
        text = duck.render(source, **template_values(table, source, connection))
        if table.build:
            connection.register("making", table.build(connection, text, protocol))
            connection.execute(f"create or replace table {table.name} as from making")
            connection.unregister("making")
        else:
            connection.execute(f"create or replace table {table.name} as {text}", duck.bound(duck.code(source), values))


def _store(
    name: str,
    made: pa.Table,
    protocol: Protocol,
    version: str,
    upstream: list[str],
    snapshot: Snapshot,
    warehouse: Warehouse,
    started: float,
) -> BuiltTable:
    schema, table = name.split(".")
    path = warehouse.table(schema, table, version)
    with warehouse.replacing(path) as temporary:
        pq.write_table(made, temporary, compression="zstd")
    row = BuiltTable(
        table_name=name,
        protocol=protocol.name,
        version=version,
        snapshot=snapshot.snapshot,
        path=str(path.relative_to(warehouse.root)),
        rows=made.num_rows,
        built_at=datetime.now(UTC),
        build_seconds=time.perf_counter() - started,
        reused=False,
        upstream=tuple(upstream),
    )
    register([row], warehouse)
    return row
