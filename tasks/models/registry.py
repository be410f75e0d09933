"""The registry of models. Each family is a file of this package, listed in FAMILIES."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import get_args

from tasks.models import catboost, ensemble, forests, knn, linear, mlp, multitask, svm, xgboost
from tasks.models.spec import Group, ModelSpec
from tasks.specs import Cell, Registry

FAMILIES = (linear, svm, knn, forests, xgboost, catboost, mlp, multitask, ensemble)
MODELS: Registry[ModelSpec] = Registry("model", *(spec for family in FAMILIES for spec in family.MODELS))
GROUPS: tuple[str, ...] = get_args(Group)
SETTINGS = "[a-z0-9][a-z0-9_-]{0,59}"  # a name of saved settings
SAVED = re.compile(f"[a-z][a-z0-9_]*@{SETTINGS}")  # a model with saved settings: MODEL@NAME


def spec_of(cell: Cell) -> ModelSpec:
    """Returns the model that a cell trains: a registered one, with the cell's own settings if it has some."""
    spec = MODELS[f"{cell.task}/{base_of(cell.model)}"]
    return replace(spec, model=cell.model, parameters=json.loads(cell.settings)) if cell.settings else spec


def base_of(model: str) -> str:
    """Returns the name of the registered model whose settings MODEL@NAME replaces; of another name itself."""
    return model.partition("@")[0]
