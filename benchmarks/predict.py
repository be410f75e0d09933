"""Predict generated tracks from a CSV and a Parquet file, beside the same models' plain `predict` of rows in memory.

    python -m benchmarks.predict WAREHOUSE [--rows 1000000] [--model xgboost_tuned]

Plain is what a script would do: the models loaded, the prepared rows of all tracks in one array, every task predicted
with as many threads. Ours is `predict_file` as a whole: reading, checking, preparing, loading models, predicting,
calibrating and writing. Both are timed in this process, in turn; the parts of ours are timed once more by themselves.
Beside wall-clock seconds stand CPU seconds, which other work on the machine blurs less.
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

from tasks.champions import predictors
from tasks.predict_files import BATCH_ROWS, predict_file, reading
from tasks.predictor import Model, Predictor, model_inputs
from tasks.preparation import prepare
from tasks.sample import sample_file
from tasks.sources import opened
from tasks.warehouse import Warehouse


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
    """Predict all rows at once by the models' own methods."""
    for model, x in zip(models, inputs, strict=True):
        task = model.champion.candidate.cell.task
        if task == "multitask":
            model.estimator.outputs(x)
        elif task == "genre":
            model.estimator.predict_proba(x)
        else:
            model.estimator.predict(x)


def main() -> None:
    """Print seconds, rows a second and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("warehouse", type=Path, help="one with a finished run of cold_start")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--model", help="instead of the champions")
    parser.add_argument("--pairs", type=int, default=1, help="how often plain and ours take turns")
    options = parser.parse_args()
    home = Warehouse.at(options.warehouse)
    threads = os.cpu_count() or 1
    source = sample_file(home, options.rows)
    with tempfile.TemporaryDirectory() as folder:
        parquet = Path(folder) / "tracks.parquet"
        frame = pl.scan_csv(source, infer_schema_length=None, null_values=["?"])
        frame.sink_parquet(parquet)
        predictor = Predictor.load(predictors(home, options.model, threads), home, threads)
        models = list(predictor.models.values())
        for model in models:
            print(f"{model.champion.candidate.title}: {model.champion.candidate.cell.task}")
        for label, path in (("CSV", source), ("Parquet", parquet)):
            with ExitStack() as stack:
                with Seconds() as reading_alone:
                    read = stack.enter_context(reading(stack.enter_context(opened(str(path), home)), {}, home))
                with Seconds() as preparing_alone:
                    inputs: list[list[np.ndarray]] = [[] for _ in models]
                    for first in range(1, read.rows + 1, BATCH_ROWS):
                        prepared: dict[str, pa.Table] = {}
                        for model, parts in zip(models, inputs, strict=True):
                            version = model.champion.candidate.feature_version
                            if version not in prepared:
                                last = first + BATCH_ROWS - 1
                                prepared[version] = prepare(read.connection, model.learnt, first, last)
                            parts.append(model_inputs(model.champion.candidate, prepared[version]))
            arrays = [np.concatenate(parts) for parts in inputs]
            print(f"{label}: reading alone {reading_alone}, preparing alone {preparing_alone}")
            for _ in range(options.pairs):
                with Seconds() as alone:
                    plain(models, arrays)
                with Seconds() as ours:
                    report = predict_file(str(path), str(Path(folder) / "out.parquet"), home, options.model)
                rate = report.rows_read / ours.wall
                print(
                    f"{label}: plain predict {alone}, ours end to end {ours}, {rate:,.0f} rows a second; "
                    f"ratio {ours.wall / alone.wall:.2f} ({ours.cpu / alone.cpu:.2f} by CPU)"
                )
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, the arrays of `plain` included")


if __name__ == "__main__":
    main()
