"""Predict generated tracks from a CSV and a Parquet file, beside the same models' plain `predict` of rows in memory.

    python -m benchmarks.predict WAREHOUSE [--rows 1000000] [--model xgboost_tuned]

Plain is what a script would do: the models loaded, the prepared rows of all tracks in one array, every task predicted
with as many threads. Ours is `predict_file` as a whole: reading, checking, preparing, loading models, predicting,
calibrating and writing. Both are timed in this process, in turn; the parts of ours are timed once more by themselves.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from tasks.champions import predictors
from tasks.predict_files import BATCH_ROWS, predict_file, reading
from tasks.predictor import Model, Predictor
from tasks.preparation import prepare
from tasks.sample import sample_file
from tasks.sources import opened
from tasks.warehouse import Warehouse


def plain(models: list[Model], inputs: list[np.ndarray]) -> float:
    """Seconds that the models' own methods take for all rows at once."""
    started = time.perf_counter()
    for model, x in zip(models, inputs, strict=True):
        task = model.champion.candidate.cell.task
        if task == "multitask":
            model.estimator.outputs(x)
        elif task == "genre":
            model.estimator.predict_proba(x)
        else:
            model.estimator.predict(x)
    return time.perf_counter() - started


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
            started = time.perf_counter()
            with opened(str(path), home) as file, reading(file, {}, home) as read:
                seconds_read = time.perf_counter() - started
                started = time.perf_counter()
                inputs: list[list[np.ndarray]] = [[] for _ in models]
                for first in range(1, read.rows + 1, BATCH_ROWS):
                    for model, parts in zip(models, inputs, strict=True):
                        prepared = prepare(read.connection, model.learnt, first, first + BATCH_ROWS - 1)
                        parts.append(model.inputs(prepared))
                seconds_prepared = time.perf_counter() - started
            arrays = [np.concatenate(parts) for parts in inputs]
            print(f"{label}: reading alone {seconds_read:.1f} s, preparing alone {seconds_prepared:.1f} s")
            for _ in range(options.pairs):
                alone = plain(models, arrays)
                report = predict_file(str(path), str(Path(folder) / "out.parquet"), home, options.model)
                rate = report.rows_read / report.seconds
                print(
                    f"{label}: plain predict {alone:.1f} s, ours end to end {report.seconds:.1f} s "
                    f"({rate:,.0f} rows a second), ratio {report.seconds / alone:.2f}"
                )
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, the arrays of `plain` included")


if __name__ == "__main__":
    main()
