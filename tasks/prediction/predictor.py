"""Loaded models that predict new tracks: they take rows prepared by DuckDB and return rows of predictions.

Only loading reads files; predictions read none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from tasks.evaluation import calibration
from tasks.models.files import load_model
from tasks.models.inference import Predicted, predict
from tasks.models.rows import columns_of
from tasks.prediction.candidates import Candidate, lineage
from tasks.prediction.champions import Champion
from tasks.prediction.preparation import FittedStatistics, PlannedPreparation, Rows, prepare
from tasks.specs import FEATURE_SETS
from tasks.storage.warehouse import Warehouse

RANKS = ("predicted", "second", "third")
PREDICTED = pa.schema(
    [
        pa.field("track_id", pa.int64()),  # the file's instance_id, or the row number
        pa.field("row_number", pa.int64(), nullable=False),  # in the file, from 1
        pa.field("predicted_genre", pa.string()),
        pa.field("probability", pa.float64()),
        pa.field("second_genre", pa.string()),
        pa.field("second_probability", pa.float64()),
        pa.field("third_genre", pa.string()),
        pa.field("third_probability", pa.float64()),
        pa.field("popularity", pa.float64()),
        pa.field("popularity_low", pa.float64()),
        pa.field("popularity_high", pa.float64()),
        pa.field("genre_model", pa.string()),
        pa.field("popularity_model", pa.string()),
        pa.field("feature_version", pa.string(), nullable=False),
        pa.field("n_filled", pa.int32(), nullable=False),  # of the 12 features
        pa.field("is_unlike_training", pa.bool_(), nullable=False),
        pa.field("is_generated_model", pa.bool_(), nullable=False),  # trained on the generated sample
    ]
)


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model with the statistics that prepare its input."""

    estimator: Any
    champion: Champion  # of one of the model's tasks; those of the others differ only in their calibration
    fitted: FittedStatistics

    def predict(self, prepared: pa.Table) -> Predicted:
        """Returns predictions for every row. Args: prepared: the result of preparation.prepare with `fitted`."""
        return predict(
            self.estimator,
            self.champion.candidate.spec,
            model_inputs(self.champion.candidate, prepared),
            len(self.champion.calibration.genres),
        )


@dataclass(frozen=True, slots=True)
class Predictor:
    """The champions of all tasks, loaded."""

    by_task: dict[str, Champion]
    models: dict[str, Model]  # by the cell's folder: one model may predict both tasks

    @classmethod
    def load(
        cls,
        by_task: Mapping[str, Champion],
        warehouse: Warehouse,
        threads: int,
        loaded: Mapping[str, Model] | None = None,
    ) -> Predictor:
        """Loads the models of champions.

        Args: by_task: the champion of each task, see champions.predictors. threads: threads of each model. loaded:
            models that are already loaded, in the form of `models`.

        Raises: UserError: a model file is missing or was changed, or the SQL that prepared its features has changed.
        """
        models: dict[str, Model] = {}
        for champion in by_task.values():
            one = champion.candidate
            if loaded and one.result in loaded:
                models[one.result] = loaded[one.result]
            if one.result not in models:
                tables = lineage(one.feature_version, warehouse)
                estimator = load_model(one.spec, one.model_path, one.model_sha256, warehouse, threads)
                models[one.result] = Model(
                    estimator, champion, FittedStatistics.of(tables, champion.calibration.familiarity, warehouse)
                )
        return cls(dict(by_task), models)

    def prepare(self, connection: duckdb.DuckDBPyConnection, first: int, last: int) -> dict[str, pa.Table]:
        """Returns the models' input for rows `first` to `last`, by feature version.

        Args: connection: has staging.typed_tracks and raw.rejects (tasks/prediction/preparation.py).
        """
        return {version: prepare(connection, what, first, last) for version, what in self.fitted.items()}

    @property
    def fitted(self) -> dict[str, FittedStatistics]:
        """The statistics that prepare the models' input, by feature version."""
        return {model.champion.candidate.feature_version: model.fitted for model in self.models.values()}

    def predict(self, prepared: dict[str, pa.Table]) -> pa.Table:
        """Returns predictions (schema PREDICTED). Args: prepared: the result of `prepare`."""
        rows = next(iter(prepared.values()))
        if not rows.num_rows:
            return PREDICTED.empty_table()
        found = {
            result: model.predict(prepared[model.champion.candidate.feature_version])
            for result, model in self.models.items()
        }
        columns = {name: rows[name] for name in ("track_id", "row_number", "n_filled", "is_unlike_training")}
        for task, champion in self.by_task.items():
            one = champion.candidate
            columns[f"{task}_model"] = pa.repeat(f"{one.cell.model}@{one.run_id}", rows.num_rows)
            columns |= (_genres if task == "genre" else _popularity)(found[one.result], champion)
        versions = dict.fromkeys(one.candidate.feature_version for one in self.by_task.values())
        columns["feature_version"] = pa.repeat("+".join(versions), rows.num_rows)
        is_generated = any(one.candidate.is_generated for one in self.by_task.values())
        columns["is_generated_model"] = pa.repeat(is_generated, rows.num_rows)
        arrays = [
            columns[field.name].cast(field.type) if field.name in columns else pa.nulls(rows.num_rows, field.type)
            for field in PREDICTED
        ]
        return pa.Table.from_arrays(arrays, schema=PREDICTED)


@dataclass(frozen=True, slots=True)
class RowPredictor:
    """Predicts tracks in memory, whose preparation DuckDB plans once. One thread at a time may use it."""

    predictor: Predictor
    preparations: dict[str, PlannedPreparation]  # by feature version

    @classmethod
    def of(cls, predictor: Predictor) -> RowPredictor:
        """Plans the preparation for each feature version of the models."""
        return cls(predictor, {version: PlannedPreparation(what) for version, what in predictor.fitted.items()})

    def predict(self, rows: Rows) -> tuple[pa.Table, list[tuple[int, str, str]]]:
        """Predicts the rows that are not rejected. Args: rows: as for preparation.read_rows.

        Returns: predictions (schema PREDICTED); and row_number, column and error of refused values.
        """
        prepared = {version: one.prepare(rows) for version, one in self.preparations.items()}
        rejects = next(iter(self.preparations.values())).rejects()
        return self.predictor.predict(prepared), rejects


def model_inputs(one: Candidate, prepared: pa.Table) -> np.ndarray:
    """Returns the input of a candidate's estimator, (n_rows, n_features), in the column order of training."""
    columns = columns_of(FEATURE_SETS[one.cell.feature_set], prepared.column_names)
    x = np.empty((prepared.num_rows, len(columns)), dtype=one.spec.dtype)
    for at, name in enumerate(columns):
        x[:, at] = prepared[name].to_numpy()
    return x


def _genres(found: Predicted, champion: Champion) -> dict[str, pa.Array]:
    """Returns the columns of the three most probable genres, or of two if there are no more."""
    assert found.probabilities is not None  # noqa: S101 - candidates for genre have them
    left = found.probabilities.copy()  # ranked before calibration, which keeps the order except for rounding
    shares = calibration.tempered(found.probabilities, champion.calibration.temperature or 1.0)
    every = np.arange(len(left))
    names = pa.array(champion.calibration.genres)
    columns: dict[str, pa.Array] = {}
    for rank in RANKS[: left.shape[1]]:
        code = left.argmax(axis=1)
        left[every, code] = -1.0
        columns[f"{rank}_genre"] = names.take(pa.array(code))
        columns["probability" if rank == "predicted" else f"{rank}_probability"] = pa.array(shares[every, code])
    return columns


def _popularity(found: Predicted, champion: Champion) -> dict[str, pa.Array]:
    points = found.values["popularity"]
    half_width = champion.calibration.half_width
    low, high = calibration.prediction_interval(points, float("inf") if half_width is None else half_width)
    inside = np.clip(points, *calibration.POPULARITY_RANGE)
    return {"popularity": pa.array(inside), "popularity_low": pa.array(low), "popularity_high": pa.array(high)}
