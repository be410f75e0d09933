"""Everything that decides a cell's result is in its key, and nothing that does not."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from tasks.models.registry import FAMILIES, MODELS
from tasks.specs import METRICS, Cell, Registry
from tasks.training import cell_key as keys

CELLS = {
    name: Cell(protocol="label_free", task=task, model=model, feature_set="all", seed=42, budget="full")
    for name in ("genre/logistic_regression", "multitask/ensemble", "multitask/multitask_tuned", "popularity/xgboost")
    for task, model in [name.split("/")]
}


@pytest.fixture
def change(monkeypatch):
    """Adds a line to a module, or changes what a model's family says of it; the caches see it."""

    def forget() -> None:
        for cached in (keys.code_version, keys._code, keys._imports):
            cached.cache_clear()

    read = keys._tree

    def add_line(module: str, line: str = "added = 1") -> None:
        changed = ast.parse(f"{ast.unparse(read(module))}\n{line}")
        monkeypatch.setattr(keys, "_tree", lambda name: changed if name == module else read(name))
        forget()

    yield add_line
    monkeypatch.undo()
    forget()


def key_of(name: str, **more: object) -> str:
    return keys.cell_key(replace(CELLS[name], **more), "0" * 16)


def modules_of(name: str) -> list[str]:
    return [*keys.SHARED, *keys.family_modules(MODELS[name])]


def test_every_module_that_training_reaches_decides_or_is_said_not_to() -> None:
    families = {module for spec in MODELS.values() for module in keys.family_modules(spec)}
    decides = {*keys.SHARED, *keys.DISTRIBUTED, *families}
    reached = keys.imported("tasks.training.train")
    left = {
        name for name in reached - decides if not f"{name}.".startswith(tuple(f"{one}." for one in keys.NOT_IN_KEY))
    }
    assert left == set()
    assert decides <= reached  # nothing is named that training does not use


@pytest.mark.slow
@pytest.mark.parametrize(("name", "module"), [(name, module) for name in CELLS for module in modules_of(name)])
def test_a_line_in_a_module_that_decides_changes_the_key(name, module, change) -> None:
    before = key_of(name)
    change(module)
    assert key_of(name) != before


@pytest.mark.parametrize("module", keys.SHARED)
def test_comments_and_docstrings_leave_the_key(module, monkeypatch) -> None:
    before = keys.code_version(module)
    text = re.sub(
        r'(?m)^( *)"""(?=\S)', r'\1# another comment\n\1"""Other words. ', Path(find_spec(module).origin).read_text()
    )
    assert "Other words." in text
    monkeypatch.setattr(keys, "_tree", lambda _: ast.parse(text))
    keys.code_version.cache_clear()
    keys._code.cache_clear()
    assert keys.code_version(module) == before


@pytest.mark.slow
def test_keys_are_computed_without_importing_what_they_are_of() -> None:
    code = """if True:
        import sys
        from tasks.models.registry import MODELS
        from tasks.training.cell_key import version_of
        print(len({version_of(spec) for spec in MODELS.values()}), "sklearn" in sys.modules)
    """
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == [str(len(FAMILIES)), "False"]


@pytest.mark.slow
def test_a_line_of_another_family_or_of_the_registry_leaves_the_key(change) -> None:
    own = "tasks.models.linear"
    before = key_of("genre/logistic_regression")
    for other in [*(family.__name__ for family in FAMILIES if family.__name__ != own), "tasks.models.registry"]:
        change(other)
        assert key_of("genre/logistic_regression") == before


@pytest.mark.parametrize("line", ["MODELS = ()", "SPACE = {}"])
def test_the_lists_of_a_family_leave_the_key(line, change) -> None:
    before = key_of("popularity/xgboost")
    change("tasks.models.xgboost", line)
    assert key_of("popularity/xgboost") == before


def test_a_metric_that_is_added_changes_the_key(monkeypatch) -> None:
    before = key_of("popularity/xgboost")
    more = replace(METRICS["mae"], name="another")
    monkeypatch.setattr(keys, "METRICS", Registry("metric", *METRICS.values(), more))
    assert key_of("popularity/xgboost") != before


def test_only_cells_fitted_by_several_workers_depend_on_that_code(change) -> None:
    alone, together = key_of("popularity/xgboost"), key_of("popularity/xgboost", workers=2)
    change("tasks.training.dask_xgboost")
    assert key_of("popularity/xgboost") == alone
    assert key_of("popularity/xgboost", workers=2) != together


@pytest.mark.parametrize(
    "changed",
    [
        {"parameters": {"n_estimators": 7}}, {"dtype": "float64"}, {"watches_validation": True},
        {"importance": "permutation"}, {"libraries": ("duckdb",)}, {"fit_out_of_core": None},
    ],
    ids=lambda changed: next(iter(changed)),
)  # fmt: skip
def test_what_a_family_says_of_its_model_is_in_the_key(changed, monkeypatch) -> None:
    before = key_of("popularity/xgboost")
    spec = replace(MODELS["popularity/xgboost"], **changed)
    monkeypatch.setattr(keys, "spec_of", lambda _: spec)
    assert key_of("popularity/xgboost") != before


def test_whether_a_model_cross_fits_is_in_the_key(monkeypatch) -> None:
    before = key_of("multitask/ensemble")
    spec = replace(MODELS["multitask/ensemble"], cross_fits=False)
    monkeypatch.setattr(keys, "spec_of", lambda _: spec)
    assert key_of("multitask/ensemble") != before


def test_what_decides_nothing_leaves_the_key(monkeypatch) -> None:
    before = key_of("popularity/xgboost")
    spec = replace(MODELS["popularity/xgboost"], cost=1000, group="better", keeps_model=False, space={})
    monkeypatch.setattr(keys, "spec_of", lambda _: spec)
    assert key_of("popularity/xgboost") == before
