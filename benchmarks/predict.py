"""Compares predictions from a CSV and a Parquet file with the same models' plain `predict` of rows in memory.

    python -m benchmarks.predict WAREHOUSE [--rows 1000000] [--model xgboost_tuned]

`Plain` is what a script would do: it loads the models, has the prepared rows of all tracks in one array, and predicts
every task with as many threads. `Ours` is all of `predict_file`: reading, checking, preparing, loading models,
predicting, calibrating and writing. Both are timed in this process, in turn; the parts of `ours` are then timed
separately. Times are wall-clock seconds and CPU seconds, which other work on the machine affects less.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from tasks.ingest.sample import sample_file
from tasks.ingest.sources import opened
from tasks.prediction.batch import BATCH_ROWS, predict_file, reading
from tasks.prediction.champions import predictors
from tasks.prediction.predictor import Model, Predictor, model_inputs
from tasks.prediction.preparation import prepare
from tasks.storage.warehouse import Warehouse


@dataclass(slots=True)
class Seconds:
    """Wall-clock and CPU seconds of a block."""

    wall: float = 0.0
    cpu: float = 0.0

    def __enter__(self) -> Seconds:
        self.wall, self.cpu = -time.perf_counter(), -time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter()
        self.cpu += time.process_time()

    def __str__(self) -> str:
        return f"{self.wall:.1f} s ({self.cpu:.1f} s CPU)"


def plain(models: list[Model], inputs: list[np.ndarray]) -> None:
    """Predicts all rows at once by the models' own methods."""
    for model, x in zip(models, inputs, strict=True):
        task = model.champion.candidate.cell.task
        if task == "multitask":
            model.estimator.outputs(x)
        elif task == "genre":
            model.estimator.predict_proba(x)
        else:
            model.estimator.predict(x)


@dataclass(frozen=True, slots=True)
class Timed:
    """Times of both sides on the same tracks: the median of several pairs."""

    plain: Seconds
    ours: Seconds


def compare(warehouse: Warehouse, rows: int, model: str | None, file_format: str, pairs: int = 1) -> Timed:
    """Predicts `rows` generated tracks from a CSV or Parquet file both ways, in turn, and prints each pair."""
    threads = os.cpu_count() or 1
    path = sample_file(warehouse, rows)
    with tempfile.TemporaryDirectory() as folder:
        if file_format == "Parquet":
            frame = pl.scan_csv(path, infer_schema_length=None, null_values=["?"])
            path = Path(folder) / "tracks.parquet"
            frame.sink_parquet(path)
        predictor = Predictor.load(predictors(warehouse, model, threads), warehouse, threads)
        models = list(predictor.models.values())
        with ExitStack() as stack:
            with Seconds() as reading_alone:
                read = stack.enter_context(reading(stack.enter_context(opened(str(path), warehouse)), {}, warehouse))
            with Seconds() as preparing_alone:
                inputs: list[list[np.ndarray]] = [[] for _ in models]
                for first in range(1, read.rows + 1, BATCH_ROWS):
                    prepared: dict[str, pa.Table] = {}
                    for one, parts in zip(models, inputs, strict=True):
                        version = one.champion.candidate.feature_version
                        if version not in prepared:
                            prepared[version] = prepare(read.connection, one.fitted, first, first + BATCH_ROWS - 1)
                        parts.append(model_inputs(one.champion.candidate, prepared[version]))
        arrays = [np.concatenate(parts) for parts in inputs]
        print(f"{file_format}: reading alone {reading_alone}, preparing alone {preparing_alone}")
        timed = []
        for _ in range(pairs):
            with Seconds() as alone:
                plain(models, arrays)
            with Seconds() as ours:
                report = predict_file(str(path), str(Path(folder) / "out.parquet"), warehouse, model)
            print(
                f"{file_format}: plain predict {alone}, ours end to end {ours}, "
                f"{report.rows_read / ours.wall:,.0f} rows a second; "
                f"ratio {ours.wall / alone.wall:.2f} ({ours.cpu / alone.cpu:.2f} by CPU)"
            )
            timed.append(Timed(alone, ours))
    return sorted(timed, key=lambda pair: pair.ours.cpu / pair.plain.cpu)[len(timed) // 2]


def main() -> None:
    """Prints seconds, rows a second and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("warehouse", help="a warehouse with a finished run of cold_start")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--model", help="predict with this model instead of the champions")
    parser.add_argument("--pairs", type=int, default=1, help="number of pairs, one of plain and one of ours each")
    options = parser.parse_args()
    warehouse = Warehouse.at(options.warehouse)
    for file_format in ("CSV", "Parquet"):
        compare(warehouse, options.rows, options.model, file_format, options.pairs)
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, the arrays of `plain` included")


if __name__ == "__main__":
    main()
