"""A cell's key: a digest of everything that decides its result. A cell whose key is stored is not trained again.

Code counts by its syntax tree, so that comments and layout do not. Of the models' code a key holds the cell's own
family alone: a new family, or a change to another, leaves it as it is.
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
from tasks.specs import BUDGETS, FEATURE_SETS, SLICES, Cell
from tasks.storage import duck

# The modules by which every cell is trained and scored, whatever its model.
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
DISTRIBUTED = ("tasks.training.dask_xgboost",)  # of cells that several workers fit together
SELECTS = ("training/rows", "training/chosen_rows")
# Modules and packages that training reaches and that decide no result. They know where files are, what errors say and
# which models there are. What they say of a cell is in its key by itself; of the feature tables it is their version.
UNDECIDING = (
    "tasks.errors",
    "tasks.specs",
    "tasks.compute",
    "tasks.storage",
    "tasks.ingest",
    "tasks.features",
    "tasks.models.files",
    "tasks.models.registry",
    "tasks.training.cell_files",
    "tasks.training.cell_key",
    "tasks.training.dask_worker",
    "tasks.training.jobs",
    "tasks.training.runs",
)
# What of a model decides nothing: which cells there are and in which order, and what is kept of them. Its functions
# count by their code.
UNDECIDING_FIELDS = {
    "build", "cost", "feature_sets", "fit_out_of_core", "group", "is_probe", "is_stochastic", "keeps_model",
    "libraries", "needs_memory", "parameters", "quick", "space", "trusted_types",
}  # fmt: skip
MODELS = "MODELS"  # a family's list of models: in a key, what decides of one of them stands by itself


def cell_key(cell: Cell, feature_version: str) -> str:
    """A digest of everything that decides a cell's result; the number of threads does not."""
    spec = spec_of(cell)
    budget = BUDGETS[cell.budget]
    fit = spec.fit_out_of_core
    return duck.digest(
        feature_version,
        (cell.feature_set, FEATURE_SETS[cell.feature_set].columns, SLICES),
        [(field.name, getattr(spec, field.name)) for field in fields(spec) if field.name not in UNDECIDING_FIELDS],
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
    """The model's settings as they are stored, with the number of workers where several fit it together."""
    together = {} if cell.workers is None else {"dask_workers": cell.workers}
    return json.dumps(spec_of(cell).parameters_for(cell.budget) | together, sort_keys=True)


def version_of(spec: ModelSpec) -> str:
    """Of the code that trains and scores a model."""
    return code_version(*SHARED, *family_modules(spec))


@cache
def code_version(*modules: str) -> str:
    """A digest of modules, none of which is imported for it, and of the SELECTs that a cell reads its rows by."""
    trees = (_without_models(_tree(name)) for name in modules)
    return duck.digest(*(ast.dump(tree) for tree in trees), *map(duck.code, SELECTS))


def family_modules(spec: ModelSpec) -> list[str]:
    """A model's family, and what it imports of `tasks.models`, as an ensemble does its members' families."""
    return sorted(imported(spec.build.__module__, within="tasks.models") - set(SHARED))


def imported(module: str, within: str = "tasks") -> set[str]:
    """A module and those of the package `within` that it imports, also inside functions, and so on from each."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(one for one in _imports(name) if f"{one}.".startswith(f"{within}."))
    return found


@cache
def _imports(module: str) -> tuple[str, ...]:
    """What a module imports by name, but for packages, which here hold a docstring alone."""
    return tuple(name for name in _named(_tree(module)) if name.startswith("tasks.") and _is_module(name))


def _named(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


@cache
def _is_module(name: str) -> bool:
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # a name within a module
        return False
    return found is not None and found.submodule_search_locations is None


@cache
def _tree(module: str) -> ast.Module:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(module)
    return ast.parse(Path(found.origin).read_text(encoding="utf-8"))


def _without_models(tree: ast.Module) -> ast.Module:
    """A family's functions and settings without its list of models, so that another model leaves the key as it is."""
    body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [MODELS])
    ]
    return ast.Module(body=body, type_ignores=[])
