"""Saves trained models as files and loads them, without pickle.

Loading a pickle runs any code that its author put into it. Models are therefore saved in the own formats of XGBoost,
CatBoost and Keras, or with skops. skops may only create the types that the model's family lists. A model is loaded from
the warehouse alone, and only if its SHA-256 is the one recorded with its cell. The process of a cell loads the file
that it has written (`read_back`), so that a model that cannot be loaded is not stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from tasks.errors import ModelFileError, one_line
from tasks.models.spec import ModelSpec
from tasks.storage.checksums import digest_of
from tasks.storage.warehouse import Warehouse

SAVED_AS: ContextVar[ModelSpec] = ContextVar("SAVED_AS")  # the model that `save_model` loads again, within `read_back`


@contextmanager
def read_back(spec: ModelSpec) -> Iterator[None]:
    """While the block lasts, `save_model` loads each file that it writes as this model."""
    token = SAVED_AS.set(spec)
    try:
        yield
    finally:
        SAVED_AS.reset(token)


def save_model(estimator: Any, folder: Path) -> tuple[str, str]:
    """Writes a fitted estimator into `folder`. Returns: the file's name and its SHA-256 in hexadecimal.

    Raises: ModelFileError: within `read_back`, the file cannot be written or loaded again.
    """
    spec = SAVED_AS.get(None)
    try:
        path = _write(estimator, folder)
        if spec:
            _read(spec, path, threads=1)
    except Exception as error:
        if spec is None:
            raise
        raise ModelFileError(
            f"{spec.name} cannot be stored: {type(estimator).__name__} could not be read back ({one_line(error)}). "
            "Name the types that it needs in trusted_types of its ModelSpec, or set keeps_model=False."
        ) from error
    return path.name, digest_of(path)


def _write(estimator: Any, folder: Path) -> Path:
    if hasattr(estimator, "get_booster"):
        path = folder / "model.ubj"
        estimator.save_model(path)
    elif hasattr(estimator, "get_borders"):
        path = folder / "model.cbm"
        estimator.save_model(path)
    elif hasattr(estimator, "save"):
        path = folder / "model.keras"
        estimator.save(path)
    else:
        import skops.io

        path = folder / "model.skops"
        skops.io.dump(estimator, path)
    return path


def load_model(spec: ModelSpec, model_path: str, sha256: str, warehouse: Warehouse, threads: int) -> Any:
    """Loads the fitted estimator of a cell.

    Args: model_path, sha256: as in results.cells.

    Raises: ModelFileError: the file is outside the warehouse, missing, or not the one that the cell wrote.
    """
    root = warehouse.root.resolve()
    path = (root / model_path).resolve()
    if not path.is_relative_to(root / "cells"):
        raise ModelFileError(f"{model_path}: models are loaded from the warehouse's own cells only.")
    warehouse.fetch([path])
    if not path.is_file():
        raise ModelFileError(f"{path}: the model file is missing. Train it again with --refresh.")
    if digest_of(path) != sha256:
        raise ModelFileError(f"{path}: is not the file its cell wrote (its SHA-256 differs). Train it with --refresh.")
    try:
        return _read(spec, path, threads)
    except Exception as error:
        raise ModelFileError(
            f"{path}: cannot be loaded ({one_line(error)}). If an earlier version wrote it, train with --refresh."
        ) from error


def _read(spec: ModelSpec, path: Path, threads: int) -> Any:
    if path.suffix == ".skops":
        import skops.io

        return skops.io.load(path, trusted=list(spec.trusted_types))
    estimator = spec.build(spec.parameters, 0, threads)
    if path.suffix in {".ubj", ".cbm"}:
        estimator.load_model(path)
    else:
        estimator.load(path)
    return estimator
