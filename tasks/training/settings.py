"""Saved settings: those that a search found, as a named file that a benchmark trains beside the registry's own.

A file is `settings/<task>/<model>@<name>.json`. It can be read and written by people: what it must hold is `task`,
`model` and `parameters`; the rest says where the settings come from. A saved file is never replaced by other settings,
because results are stored under its name. Whatever trains them takes them from the cell, not from the file, so a stored
result needs the file no more.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import UnknownNameError, UserError
from tasks.models.registry import MODELS, SAVED, base_of, spec_of
from tasks.models.spec import ModelSpec
from tasks.storage.warehouse import Warehouse
from tasks.training.jobs import Job
from tasks.training.runs import library_versions

if TYPE_CHECKING:
    from tasks.training.tuning import Best

FOLDER = "settings"


def save(name: str, best: Best, search: str, job: Job, warehouse: Warehouse) -> str:
    """Saves the best settings of a search under a name. Equal settings that are saved already stay as they are.

    Args: search: the search's name. job: of its trials.

    Returns: the path of the file below the warehouse.

    Raises: UserError: other settings are saved under the name.
    """
    spec = spec_of(job.cell)
    chosen = {**spec.parameters, **best.parameters}
    path = f"{FOLDER}/{spec.task}/{spec.model}@{name}.json"
    with warehouse.lock_everywhere(FOLDER):
        if (content := warehouse.store.read(path)) is not None:
            if _model(path, content, warehouse).parameters != chosen:
                raise UserError(
                    f"{path}: other settings of {spec.model} are saved under this name, and stay. "
                    "Save these under another: the same command with another --save goes on from there."
                )
            return path
        record = {
            "task": spec.task,
            "model": spec.model,
            "parameters": chosen,
            "metric": best.metric,
            "validation_value": best.value,
            "validation_value_of_committed": best.committed,
            "trials": best.n_finished,
            "protocol": job.cell.protocol,
            "search": search,
            "feature_version": job.feature_version,
            "saved_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": library_versions(),
        }
        with warehouse.replacing(warehouse.root / path) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return path


def saved_models(names: Iterable[str], warehouse: Warehouse) -> list[ModelSpec]:
    """Returns the models with saved settings among `names` (MODEL@NAME), one for each task that they are saved for.

    Raises: UserError: there are no such settings, or they cannot be used.
    """
    asked = [name for name in dict.fromkeys(names) if "@" in name]
    stored = _stored(warehouse) if asked else {}
    found = []
    for name in asked:
        paths = [path for path in stored if stored[path] == name]
        if not paths and not stored:
            raise UserError(f"No settings '{name}' are saved in {warehouse.address}. flows.tune saves some: --save.")
        if not paths:
            raise UnknownNameError("settings", name, {*stored.values()})
        found += [_model(path, warehouse.store.read(path) or b"", warehouse) for path in paths]
    return found


def _stored(warehouse: Warehouse) -> dict[str, str]:
    """Returns the model of each file of settings of a registered model, as MODEL@NAME, by path."""
    found = {}
    for task in dict.fromkeys(spec.task for spec in MODELS.values()):
        for file in warehouse.store.names(f"{FOLDER}/{task}"):
            name = file.removesuffix(".json")
            if name != file and SAVED.fullmatch(name) and f"{task}/{base_of(name)}" in MODELS:
                found[f"{FOLDER}/{task}/{file}"] = name
    return found


def _model(path: str, content: bytes, warehouse: Warehouse) -> ModelSpec:
    """Returns the model of a file of settings. Raises: UserError: the file cannot be used."""
    _, task, file = path.split("/")
    name = file.removesuffix(".json")
    spec = MODELS[f"{task}/{base_of(name)}"]
    try:
        record = json.loads(content, parse_float=_number, parse_constant=_number)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no file of settings in JSON ({error}). Remove it, and save it again.") from error
    if not isinstance(record, dict) or not isinstance(record.get("parameters"), dict):
        raise UserError(f"{path}: is no file of settings: it has no `parameters` by name.")
    if (record.get("task"), record.get("model")) != (spec.task, spec.model):
        raise UserError(
            f"{path}: has settings of task {_shown(record.get('task'))} and model {_shown(record.get('model'))}. "
            f"A file of this name must have those of {spec.name}."
        )
    if reason := _why_not(spec, record["parameters"]):
        raise UserError(f"{path}: {reason}")
    kept = warehouse.digest_kept(warehouse.root / path)
    if kept and kept != hashlib.sha256(content).hexdigest():
        raise UserError(
            f"{path}: was changed after it was saved. Results are stored under its name: give what it holds now another"
            f" one, such as {Path(path).stem}_2.json."
        )
    return replace(spec, model=name, parameters={one: record["parameters"][one] for one in spec.parameters})


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number")
    return value


def _why_not(spec: ModelSpec, parameters: Mapping[str, Any]) -> str | None:
    """Says why these cannot be a model's parameters; None if they can."""
    for said, names in (
        ("has no", spec.parameters.keys() - parameters),
        ("has an unknown", parameters.keys() - spec.parameters),
    ):
        if names:
            return f"{said} parameter {_shown(min(names))}. {spec.name} has {', '.join(sorted(spec.parameters))}."
    for name, value in parameters.items():
        like = json.loads(json.dumps(spec.parameters[name]))
        if name in spec.space:
            like = spec.space[name].low + spec.space[name].high  # a float if either bound is
        is_whole_float = isinstance(like, float) and type(value) is int
        if like is not None and type(value) is not type(like) and not is_whole_float:
            return f"parameter '{name}' is {_shown(value)}. It must be of type {type(like).__name__}."
    return None


def _shown(value: object) -> str:
    return json.dumps(value)[:60]
