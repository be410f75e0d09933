"""Measures intervals and comparisons of every published cell, computed again from the stored predictions.

    python -m benchmarks.intervals warehouse

A run does this for each cell while it trains, and at its end; here it is one job of two processes with one thread each.
Probabilities of genres are not stored. Random ones are used instead, which take as long.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import duckdb
import numpy as np
import polars as pl

from benchmarks.children import peak_mib
from tasks.evaluation import bootstrap
from tasks.results import publish
from tasks.storage.warehouse import Warehouse


def resample(job: tuple[str, str, str]) -> float:
    """Computes replicates and intervals of one cell's stored predictions. Returns the process's peak MiB."""
    predictions, splits, task = job
    groups = pl.read_parquet(splits, columns=["track_id", "group_id"])
    rows = pl.read_parquet(predictions).filter(task=task).join(groups, on="track_id", maintain_order="left")
    random = np.random.default_rng(0)
    for split in ("val", "test"):
        part = rows.filter(split=split)
        imputed = random.random(part.height) < 0.19
        slices = {"all": np.ones(part.height, dtype=bool), "imputed": imputed, "observed": ~imputed}
        y_true, y_pred = part["y_true"].to_numpy(), part["y_pred"].to_numpy()
        shares = None
        if task == "genre":
            y_true, y_pred = y_true.astype(np.int64), y_pred.astype(np.int64)
            shares = random.dirichlet(np.ones(y_true.max() + 1), part.height)
        found = bootstrap.replicates(task, y_true, y_pred, shares, slices, part["group_id"].to_numpy())
        for values in found.values():
            bootstrap.percentile_interval(values)
    return peak_mib()


def main() -> None:
    """Prints the seconds of each part, and the processes' memory and CPU seconds (including their start)."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("warehouse", help="a warehouse with a finished run")
    warehouse = Warehouse.to_read(parser.parse_args().warehouse)
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    with duckdb.connect(str(warehouse.database), read_only=True) as connection:
        found = connection.execute("""
            select figures.results[1] as result, arg_max(registry.path, registry.built_at), figures.task
            from results.figures as figures
            inner join features.registry as registry
                on figures.protocol = registry.protocol and registry.table_name = 'features.split_assignment'
            group by result, figures.task
        """).fetchall()
    jobs = [
        (str(warehouse.here(warehouse.cell(result) / "predictions.parquet")), str(warehouse.here(path)), task)
        for result, path, task in found
    ]
    started = time.perf_counter()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        peak = max(pool.map(resample, jobs))
    between = time.perf_counter()
    cpu = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copy(warehouse.database, folder)
        with duckdb.connect(str(copy)) as connection:
            for table in publish.CONTRASTS:
                connection.execute(f"drop table results.{table}")
            publish.compare(connection, warehouse)
    ended = time.perf_counter()
    cells = len({result for result, *_ in found})
    print(f"{cells} cells: intervals {between - started:.1f} s, {cpu:.1f} CPU s, peak {peak:.0f} MiB a process")
    print(f"comparisons and ledger: {ended - between:.1f} s")


if __name__ == "__main__":
    main()
