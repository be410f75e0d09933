"""Loads plug-ins: Python modules that add models, feature sets and protocols without a change of the source.

A plug-in's module has any of the names MODELS, FEATURE_SETS, PROTOCOLS (sequences of the project's own specs) and SQL
(SELECTs by names as below `sql/`). Packages name theirs by an entry point of group GROUP; these are always loaded. A
file is named in $MUSIC_PLUGINS or given to `load_plugins`. Each process that looks up names loads plug-ins first; a job
carries the files to the process of its cell. docs/plugins.md explains how to write one.

Without plug-ins nothing large is imported, because commands load them before they answer `--help`.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from tasks.errors import PluginError, UserError, one_line
from tasks.models.registry import GROUPS, MODELS
from tasks.models.spec import Importance, ModelSpec
from tasks.specs import (
    AUDIO_FEATURES,
    FEATURE_SETS,
    IN_UNITS,
    PROTOCOLS,
    FeatureSet,
    Protocol,
    Registry,
    Task,
    protocol_names,
)

GROUP = "music_benchmark.models"
VARIABLE = "MUSIC_PLUGINS"
LISTS: dict[str, type] = {"MODELS": ModelSpec, "FEATURE_SETS": FeatureSet, "PROTOCOLS": Protocol}
NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
# Columns that a table with the rows of a model has besides its features.
TAKEN = {
    *("protocol", "track_id", "split", "position", "popularity", "target_popularity", "music_genre", "genre_id"),
    *("group_id", "is_imputed", "row_number", "instance_id", "n_filled", "n_unclear"),
    "is_unlike_training",
}  # fmt: skip
LOADING = threading.RLock()
LOADED: dict[str, ModuleType] = {}  # by file, or by `distribution: entry point`


def load_plugins(files: Iterable[str] = ()) -> None:
    """Registers what plug-ins add: installed ones, those of $MUSIC_PLUGINS, and `files`. Each is loaded once.

    Raises: PluginError: one cannot be imported, or something that it adds is not possible.
    """
    with LOADING:
        for source, point in _installed().items():
            if source not in LOADED:
                LOADED[source] = _registered(source, point.load)
        named = [part.strip() for part in os.environ.get(VARIABLE, "").split(",")]
        for file in [*filter(None, named), *files]:
            path = Path(file).expanduser().resolve()
            if str(path) not in LOADED:
                LOADED[str(path)] = _registered(file, partial(_import, path))


def loaded_files() -> tuple[str, ...]:
    """Returns the files of the plug-ins that this process has loaded, for another process to load them."""
    return tuple(source for source in LOADED if Path(source).is_absolute())


@cache
def _installed() -> dict[str, metadata.EntryPoint]:
    return {
        f"{point.dist.name if point.dist else '?'}: {point.name}": point for point in metadata.entry_points(group=GROUP)
    }


def _registered(source: str, read: Callable[[], ModuleType]) -> ModuleType:
    """Imports a plug-in and registers all that it adds, or nothing."""
    try:
        module = read()
    except UserError as error:
        raise PluginError(f"plug-in {source}: {error}") from error
    except (Exception, SystemExit) as error:  # the plug-in's own code may raise any
        raise PluginError(f"plug-in {source}: cannot be imported ({type(error).__name__}: {error}).") from error
    try:
        _register(module)
    except PluginError as error:
        raise PluginError(f"plug-in {source}: {error}") from error
    return module


def _import(path: Path) -> ModuleType:
    """Imports a file as a module with the file's name."""
    name = path.stem
    if path.suffix != ".py" or not name.isidentifier():
        raise PluginError("is no Python file whose name can be a module's, such as my_models.py.")
    if not path.is_file():
        raise PluginError("there is no such file.")
    found = importlib.util.find_spec(name)
    if found is not None and (found.origin is None or Path(found.origin).resolve() != path):
        raise PluginError(f"there is another module '{name}' ({found.origin or 'a package'}). Rename the file.")
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - it is a .py file
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _register(module: ModuleType) -> None:
    """Registers what a module adds. Raises: PluginError: some of it is not possible; nothing is registered then."""
    added = {name: _listed(module, name, kind) for name, kind in LISTS.items()}
    if not any(added.values()):
        raise PluginError(f"adds nothing: none of {', '.join(LISTS)} has an entry.")
    known = {"MODELS": [*MODELS], "FEATURE_SETS": [*FEATURE_SETS], "PROTOCOLS": protocol_names()}
    for name, specs in added.items():
        for spec in specs:
            if spec.name in known[name]:
                raise PluginError(f"{name} registers '{spec.name}', a name that is taken.")
            known[name].append(spec.name)
    for chosen in added["FEATURE_SETS"]:
        _check_feature_set(chosen)
    for model in added["MODELS"]:
        _check_model(model, known["FEATURE_SETS"])
    with _selects(module):
        for protocol in added["PROTOCOLS"]:
            _check_protocol(protocol)
    registries: dict[str, Registry[Any]] = {"MODELS": MODELS, "FEATURE_SETS": FEATURE_SETS, "PROTOCOLS": PROTOCOLS}
    for name, specs in added.items():
        for spec in specs:
            registries[name].add(spec)


def _listed(module: ModuleType, name: str, kind: type) -> Sequence[Any]:
    found = getattr(module, name, ())
    if not isinstance(found, list | tuple) or not all(isinstance(one, kind) for one in found):
        raise PluginError(f"{name} must be a list or a tuple of {kind.__name__}.")
    return found


@contextmanager
def _selects(module: ModuleType) -> Iterator[None]:
    """Adds a module's SELECTs; they stay if the block does not raise."""
    from tasks.storage import duck

    found = getattr(module, "SQL", {})
    if not isinstance(found, dict) or not all(isinstance(part, str) for pair in found.items() for part in pair):
        raise PluginError("SQL must be a dictionary of texts: SELECTs by name.")
    if taken := sorted(name for name in found if duck.has_select(name)):
        raise PluginError(f"SQL has '{taken[0]}', a name that is taken.")
    duck.ADDED.update(found)
    try:
        yield
    except PluginError:
        for name in found:
            del duck.ADDED[name]
        raise


def _check_name(kind: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise PluginError(f"{kind} '{name}': a name has lower-case letters, digits and underscores, such as my_name.")


def _check_model(spec: ModelSpec, feature_sets: Sequence[str]) -> None:
    _check_name("model", spec.model)
    said: list[tuple[str, str, Sequence[str]]] = [
        ("task", spec.task, get_args(Task)),
        ("group", spec.group, GROUPS),
        ("importance", spec.importance, get_args(Importance)),
    ]
    for field, value, known in said:
        if value not in known:
            raise PluginError(f"model '{spec.name}': {field} is '{value}'. Known: {', '.join(known)}.")
    if unknown := sorted({*spec.feature_sets} - {*feature_sets}):
        raise PluginError(f"model '{spec.name}': there is no feature set '{unknown[0]}'.")
    if not inspect.isfunction(spec.build):
        raise PluginError(f"model '{spec.name}': build must be a function, whose code decides the key of its cells.")
    try:
        json.dumps([dict(spec.parameters), dict(spec.quick)])
    except (TypeError, ValueError) as error:
        raise PluginError(f"model '{spec.name}': its parameters cannot be written as JSON ({error}).") from error


def _check_protocol(protocol: Protocol) -> None:
    from tasks.features.tables import TABLES
    from tasks.storage import duck

    of = f"protocol '{protocol.name}'"
    _check_name("protocol", protocol.name)
    if protocol.split not in {"study", "grouped"}:
        raise PluginError(f"{of}: split is '{protocol.split}'. Known: study, grouped.")
    if protocol.left_out or protocol.is_control:
        raise PluginError(f"{of}: left_out and is_control are for the project's own probes.")
    for select in (protocol.fill, *(f"checks/{name}" for name in protocol.checks)):
        if not duck.has_select(select):
            raise PluginError(f"{of}: there is no SELECT '{select}', in the plug-in's SQL or below sql/.")
    names = [table.name for table in TABLES]
    made_before = names[: names.index("features.fill_values")]
    if late := sorted({*duck.upstream(protocol.fill)} - {*made_before}):
        raise PluginError(
            f"{of}: its fill values are learnt from {late[0]}, which is made from them or never made. "
            "Read staging.stg_tracks and features.split_assignment."
        )


def _check_feature_set(chosen: FeatureSet) -> None:
    import duckdb

    of = f"feature set '{chosen.name}'"
    _check_name("feature set", chosen.name)
    if chosen.table or chosen.leaks or not chosen.columns:
        raise PluginError(f"{of}: give `columns`, the SQL expression of each, without `table` and `leaks`.")
    inputs = [f"{before}{name}" for before in ("", IN_UNITS) for name in AUDIO_FEATURES]
    with duckdb.connect() as connection:
        for column, expression in chosen.expressions.items():
            _check_name(f"{of}, column", column)
            if column in TAKEN:
                raise PluginError(f"{of}: a column cannot be called '{column}'.")
            if reason := _why_no_expression(expression, inputs, connection):
                raise PluginError(
                    f"{of}, column '{column}': {one_line(expression)} is no expression of one track's audio features "
                    f"({one_line(reason)}). It may name them, and the same with `{IN_UNITS}` before it."
                )


def _why_no_expression(expression: str, inputs: list[str], connection: Any) -> str | None:
    """Says why a text is no SQL expression of one row's inputs; None if it is one. DuckDB generates a column by it."""
    import duckdb

    columns = "".join(f"{name} double, " for name in inputs)
    try:
        connection.execute(
            f"create or replace temp table probe ({columns} value double generated always as "
            f"(cast(({expression}) as double)) virtual)"
        )
        [(tree,)] = connection.execute("select json_serialize_sql('select ' || $1)", [expression]).fetchall()
        changing = connection.execute(
            "select distinct function_name from duckdb_functions() where stability <> 'CONSISTENT'"
        ).fetchall()
    except duckdb.Error as error:
        return str(error).splitlines()[0]
    called = {*re.findall(r'"function_name":"(\w+)"', tree)} & {name for (name,) in changing}
    return f"{min(called)}() may give another value each time" if called else None
