"""Calibration of a stored model's predictions: fitted on validation rows, evaluated on test rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from tasks.compute.processes import Processes
from tasks.errors import UserError
from tasks.evaluation import calibration
from tasks.features.registry import BuiltTable
from tasks.models.files import load_model
from tasks.plugins import load_plugins, loaded_files
from tasks.prediction.candidates import Candidate, job_of, lineage
from tasks.specs import AUDIO_FEATURES
from tasks.storage.warehouse import Warehouse

FAMILIAR_ROWS = 1_000_000  # training rows that define which tracks are usual: enough for a share of 0.1 %
TIMEOUT = 600.0  # seconds for calibrating a run's champions


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A predictor's calibration, fitted on validation rows, and its figures on the test rows."""

    genres: list[str]  # by genre code
    n_validation: int
    n_test: int
    familiarity: list[dict[str, Any]]  # see tasks.evaluation.calibration.familiarity
    temperature: float | None = None  # genre only, as the next four fields, which are of test rows
    log_loss: float | None = None
    log_loss_uncalibrated: float | None = None
    ece: float | None = None
    ece_uncalibrated: float | None = None
    half_width: float | None = None  # popularity only, as all fields below: half width of the interval, in points
    coverage_wanted: float | None = None
    coverage: float | None = None  # share of test rows within their interval, with its own 95 % interval
    coverage_low: float | None = None
    coverage_high: float | None = None


def calibrate_in_child(chosen: list[Candidate], warehouse: Warehouse, threads: int) -> list[Calibration]:
    """Calls `calibrate` in a child process, as a model may crash, and scikit-learn need not be loaded here."""
    request = (chosen, warehouse.address, threads, loaded_files())
    with Processes(threads, TIMEOUT) as processes:
        ended = processes.run(calibrate, request, warehouse.temporary("log"))
    if ended.status != "ok":
        raise UserError(f"{chosen[0].title}: cannot be calibrated ({ended.error}).")
    found: list[Calibration] = ended.value
    return found


def calibrate(request: tuple[list[Candidate], str, int, tuple[str, ...]]) -> list[Calibration]:
    """Calibrates candidates on their validation rows and evaluates the calibration on their test rows.

    Args: request: candidates, address of the warehouse, threads, files of plug-ins.
    """
    from tasks.training import train  # as metrics, imports scikit-learn, which the predicting process does not need

    chosen, address, threads, plugins = request
    load_plugins(plugins)
    warehouse = Warehouse.to_read(address)
    found = {}
    for result in dict.fromkeys(one.result for one in chosen):
        same = [one for one in chosen if one.result == result]
        tables = lineage(same[0].feature_version, warehouse)
        job = job_of(same[0], tables, warehouse)
        with train.opened(job) as data:
            model = load_model(same[0].spec, same[0].model_path, same[0].model_sha256, warehouse, threads)
            predicted = {
                split: train.predict_all(model, same[0].spec, data.x[split], len(job.genres))
                for split in ("val", "test")
            }
            shared: dict[str, Any] = {
                "genres": list(job.genres),
                "n_validation": len(data.x["val"]),
                "n_test": len(data.x["test"]),
                "familiarity": _familiarity(tables, warehouse),
            }
            for one in same:
                truth = data.y[one.task]
                if one.task == "genre":
                    shares = {split: part.probabilities for split, part in predicted.items()}
                    figures: dict[str, Any] = _genre_figures(truth, shares)
                else:
                    values = {split: part.values["popularity"] for split, part in predicted.items()}
                    figures = _popularity_figures(truth, values, data.units["test"])
                found[one.task, result] = Calibration(**shared, **figures)
    return [found[one.task, one.result] for one in chosen]


def _genre_figures(truth: dict[str, np.ndarray], shares: dict[str, Any]) -> dict[str, float]:
    from tasks.evaluation import metrics

    temperature = calibration.temperature(truth["val"], shares["val"])
    before = metrics.probability_scores(truth["test"], shares["test"])
    after = metrics.probability_scores(truth["test"], calibration.tempered(shares["test"], temperature))
    return {
        "temperature": temperature,
        **{name: after[name] for name in ("log_loss", "ece")},
        **{f"{name}_uncalibrated": before[name] for name in ("log_loss", "ece")},
    }


def _popularity_figures(
    truth: dict[str, np.ndarray], values: dict[str, np.ndarray], units: np.ndarray
) -> dict[str, float]:
    half_width = calibration.margin(truth["val"], values["val"])
    low, high = calibration.prediction_interval(values["test"], half_width)
    share, share_low, share_high = calibration.share((low <= truth["test"]) & (truth["test"] <= high), units)
    return {
        "half_width": half_width,
        "coverage_wanted": calibration.COVERAGE,
        "coverage": share,
        "coverage_low": share_low,
        "coverage_high": share_high,
    }


def _familiarity(tables: dict[str, BuiltTable], warehouse: Warehouse) -> list[dict[str, object]]:
    standardized = pl.scan_parquet(warehouse.here(tables["features.tracks_std"].path))
    standardized = standardized.filter(pl.col("split") == "train", pl.col("position") < FAMILIAR_ROWS)
    return calibration.familiarity(list(AUDIO_FEATURES), standardized.select(AUDIO_FEATURES).collect().to_numpy())
