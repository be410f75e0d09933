"""The registry of models. Each family is a file of this package, listed in FAMILIES."""

from __future__ import annotations

from typing import get_args

from tasks.models import catboost, ensemble, forests, knn, linear, mlp, multitask, svm, xgboost
from tasks.models.spec import Group, ModelSpec
from tasks.specs import Cell, Registry

FAMILIES = (linear, svm, knn, forests, xgboost, catboost, mlp, multitask, ensemble)
MODELS: Registry[ModelSpec] = Registry("model", *(spec for family in FAMILIES for spec in family.MODELS))
GROUPS: tuple[str, ...] = get_args(Group)


def spec_of(cell: Cell) -> ModelSpec:
    """Returns the registered model that a cell trains."""
    return MODELS[f"{cell.task}/{cell.model}"]
