"""Computes a cell's key: a digest of everything that decides its result. A cell with a stored key is not trained again.

Code is digested as a syntax tree without docstrings, so comments, layout and docstrings do not change keys. Of the
models' code only the cell's own family is part of the key, so a new or changed family does not change the keys of
others. The family of a plug-in's model is the plug-in, with what it imports from its own package.
"""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

from tasks.models.registry import spec_of
from tasks.models.spec import ModelSpec
from tasks.specs import BUDGETS, FEATURE_SETS, METRICS, SLICES, Cell
from tasks.storage import duck

PROJECT = Path(__file__).resolve().parents[2]
# The modules that train and score every cell, for all models.
SHARED = (
    "tasks.compat",
    "tasks.training.train",
    "tasks.training.large_tables",
    "tasks.models.inference",
    "tasks.models.rows",
    "tasks.models.spec",
    "tasks.evaluation.metrics",
    "tasks.evaluation.bootstrap",
)
DISTRIBUTED = ("tasks.training.dask_xgboost",)  # also for cells that several Dask workers fit together
SELECTS = ("training/rows", "training/chosen_rows")
# Modules that training imports and that do not decide a result, such as where files are, the texts of errors and the
# list of models. If a value of theirs decides a result, the key contains the value itself. The code of the feature
# tables is part of the key by the tables' version. Not used at run time: tests/tasks/training/test_cell_key.py checks
# that every module which training imports is named here or above.
NOT_IN_KEY = (
    "tasks.errors",
    "tasks.specs",
    "tasks.compute",
    "tasks.storage",
    "tasks.ingest",
    "tasks.features",
    "tasks.plugins",
    "tasks.models.files",
    "tasks.models.registry",
    "tasks.training.cell_files",
    "tasks.training.cell_key",
    "tasks.training.dask_worker",
    "tasks.training.jobs",
    "tasks.training.runs",
)
# Fields of ModelSpec that a key leaves out. They decide which cells there are, their order and what is stored of them.
# Others are in the key in another form: functions by their code, parameters and library versions by themselves.
FIELDS_NOT_IN_KEY = {
    "build", "cost", "feature_sets", "fit_out_of_core", "group", "is_probe", "is_stochastic", "keeps_model",
    "libraries", "needs_memory", "parameters", "quick", "space", "trusted_types",
}  # fmt: skip
# What a family's module says of all its models: the list of them, and the search space of those that are tuned; and
# what else a plug-in's module lists. A key contains what decides of the cell's own model instead, its settings, and the
# version of its features.
LISTS_NOT_IN_KEY = ("MODELS", "SPACE", "FEATURE_SETS", "PROTOCOLS", "SQL")


def cell_key(cell: Cell, feature_version: str) -> str:
    """Returns a digest of everything that decides a cell's result. The number of threads does not."""
    spec = spec_of(cell)
    budget = BUDGETS[cell.budget]
    fit = spec.fit_out_of_core
    return duck.digest(
        feature_version,
        (cell.feature_set, FEATURE_SETS[cell.feature_set].columns, SLICES),
        [(metric.name, metric.task, metric.mean_of) for metric in METRICS.values() if metric.mean_of],
        [(field.name, getattr(spec, field.name)) for field in fields(spec) if field.name not in FIELDS_NOT_IN_KEY],
        (spec.build.__qualname__, fit and fit.__qualname__),
        cell.seed if spec.is_stochastic or spec.importance == "permutation" else "any seed",
        parameters_json(cell),
        (budget.name, budget.max_train_rows, budget.importance_rows),
        sorted(spec.versions().items()),
        version_of(spec),
        *([] if cell.train_rows is None else [cell.train_rows]),
        *([] if cell.workers is None else [code_version(*DISTRIBUTED)]),
    )


def parameters_json(cell: Cell) -> str:
    """Returns the model's settings as JSON, with the number of Dask workers if several fit it together."""
    together = {} if cell.workers is None else {"dask_workers": cell.workers}
    return json.dumps(spec_of(cell).parameters_for(cell.budget) | together, sort_keys=True)


def version_of(spec: ModelSpec) -> str:
    """Returns the digest of the code that trains and scores a model."""
    return code_version(*SHARED, *family_modules(spec))


@cache
def code_version(*modules: str) -> str:
    """Returns a digest of modules, which are not imported for it, and of the SELECTs that read a cell's rows."""
    return duck.digest(*map(_code, modules), *map(duck.code, SELECTS))


def family_modules(spec: ModelSpec) -> list[str]:
    """Returns the modules of a model's family, with those of `tasks.models` and of its own package that they import.

    The shared modules are left out.
    """
    functions = [spec.build, *([spec.fit_out_of_core] if spec.fit_out_of_core else [])]
    within = {"tasks.models", *(_package(one.__module__) for one in functions)} - {"tasks"}
    return sorted(set().union(*(imported(one.__module__, *within) for one in functions)) - set(SHARED))


def imported(module: str, *within: str) -> set[str]:
    """Returns a module and all that it imports of some packages, directly or not, also inside functions.

    Args: within: the packages, by default the project's.
    """
    packages = tuple(f"{package}." for package in within or ("tasks",))
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(one for one in _imports(name) if f"{one}.".startswith(packages))
    return found


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Returns the modules of the project and of its own package that a module imports."""
    packages = ("tasks.", f"{_package(module)}.")
    return tuple(
        name for name in _named(_tree(module), module) if f"{name}.".startswith(packages) and _file(name).is_file()
    )


def _named(tree: ast.AST, module: str) -> Iterator[str]:
    parts = module.split(".")
    above = len(parts) if _file(module).name == "__init__.py" else len(parts) - 1  # names of its package
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            relative = parts[: above - node.level + 1] if node.level else []
            origin = ".".join([*relative, *([node.module] if node.module else [])])
            yield origin
            yield from (f"{origin}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def _package(module: str) -> str:
    return module.partition(".")[0]


def _file(module: str) -> Path:
    """Returns where a module is. Asking importlib for more than its first name would import what is above it."""
    package, *inner = module.split(".")
    if package == "tasks":
        return PROJECT / f"{module.replace('.', '/')}.py"
    found = importlib.util.find_spec(package)
    if found is None or not (found.submodule_search_locations or found.origin):
        return Path()  # nowhere
    if not found.submodule_search_locations:
        return Path(str(found.origin)) if not inner else Path()
    place = Path(found.submodule_search_locations[0]).joinpath(*inner)
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _tree(module: str) -> ast.Module:
    return ast.parse(_file(module).read_text(encoding="utf-8"))


@cache
def _code(module: str) -> str:
    """Returns what decides results in a module: its syntax tree without docstrings and lists of models, as text."""
    tree = _without_lists(_tree(module))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def _without_lists(tree: ast.Module) -> ast.Module:
    """Returns a module without its lists, so that a new model in it does not change the keys of others."""
    body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in LISTS_NOT_IN_KEY)
    ]
    return ast.Module(body=body, type_ignores=[])
