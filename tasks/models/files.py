"""Saves trained models as files and loads them, without pickle.

Loading a pickle runs any code that its author put into it. Models are therefore saved in XGBoost's and Keras's own
formats, or with skops. skops may only create the types that the model's family lists. A model is loaded from the
warehouse alone, and only if its SHA-256 is the one recorded with its cell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.errors import ModelFileError, one_line
from tasks.models.spec import ModelSpec
from tasks.storage.checksums import digest_of
from tasks.storage.warehouse import Warehouse


def save_model(estimator: Any, folder: Path) -> tuple[str, str]:
    """Writes a fitted estimator into `folder`. Returns: the file's name and its SHA-256 in hexadecimal."""
    if hasattr(estimator, "get_booster"):
        path = folder / "model.ubj"
        estimator.save_model(path)
    elif hasattr(estimator, "save"):
        path = folder / "model.keras"
        estimator.save(path)
    else:
        import skops.io

        path = folder / "model.skops"
        skops.io.dump(estimator, path)
    return path.name, digest_of(path)


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
    if path.suffix == ".skops":
        import skops.io

        try:
            return skops.io.load(path, trusted=list(spec.trusted_types))
        except (ImportError, skops.io.exceptions.UntrustedTypesFoundException) as error:
            raise ModelFileError(
                f"{path}: cannot be loaded ({one_line(error)}). If an earlier version wrote it, train with --refresh."
            ) from error
    estimator = spec.build(spec.parameters, 0, threads)
    if path.suffix == ".ubj":
        estimator.load_model(path)
    else:
        estimator.load(path)
    return estimator
