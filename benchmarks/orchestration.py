"""Measures the cost of Prefect, fan-out and bookkeeping: the benchmark flow on cells that train nothing.

A trivial cell is like any other, except that its process writes a result without fitting a model. Seconds are those
between the first cell's start and the last one's end, as in results.runs. The baseline is as many Prefect tasks that do
nothing, on the same thread runner and server. benchmarks/fan_outs.py runs each measurement in a separate process, with
its own server.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.children import peak_mib
from tasks.storage.warehouse import Warehouse
from tasks.training.cell_files import PREDICTIONS, REPLICATES, RESULT
from tasks.training.jobs import Job

MODEL, FEATURE_SET = "random_forest", "rhythm"
MOST_SECONDS_A_CELL = 0.050


@dataclass(frozen=True, slots=True)
class Fanned:
    """Figures of one fan-out of n cells, and of n empty Prefect tasks."""

    cells: int
    seconds: float
    empty_seconds: float
    peak_mib: float  # until the last cell has ended
    published_mib: float  # until all is published
    publish_seconds: float
    plain_publish_seconds: float  # DuckDB alone, reading the same files


def trivial_cell(job: Job) -> None:
    """Writes a cell's folder with one metric and no predictions."""
    now = datetime.now(UTC)
    metric = {"task": job.cell.task, "split": "test", "slice": "all", "n": 1, "metric": "rmse", "value": 1.0}
    result = {
        "result": job.result,
        "started_at": now,
        "finished_at": now,
        "fit_seconds": 0.0,
        "predict_seconds": 0.0,
        "peak_rss_mb": 0.0,
        "n_train": 1,
        "params": "{}",
        "feature_version": job.feature_version,
        "metrics": [metric],
        "confusion": [],
        "importance": [],
        "history": [],
        "calibration": [],
    }
    warehouse = Warehouse.at(job.warehouse)
    with warehouse.new_folder(warehouse.cell(job.result)) as folder:
        pq.write_table(pa.Table.from_pylist([result], RESULT), folder / "result.parquet")
        pq.write_table(REPLICATES.empty_table(), folder / "replicates.parquet")
        pq.write_table(PREDICTIONS.empty_table(), folder / "predictions.parquet")


def measure(cells: int, warehouse: Warehouse) -> Fanned:
    """Runs `cells` empty Prefect tasks, and then the flow on as many trivial cells, of both tasks.

    Nothing else may have run in this process, so that its peaks are those of the flow.
    """
    from prefect import flow, task
    from prefect.task_runners import ThreadPoolTaskRunner

    from flows.deployed import benchmark
    from tasks.compute.processes import Processes, share_of_cores
    from tasks.results import publish
    from tasks.training import train

    publishing: list[float] = []
    peaks: list[float] = []
    workers, threads = share_of_cores(None)

    @task(name="empty", persist_result=False)
    def empty(number: int) -> int:
        return number

    @flow(name="empty")
    def empty_tasks() -> float:
        began = time.perf_counter()
        with ThreadPoolTaskRunner[int](max_workers=workers) as runner:
            for future in [runner.submit(empty, {"number": number}) for number in range(cells)]:
                future.wait()
        return time.perf_counter() - began

    def timed_publish(*arguments: object) -> object:
        peaks.append(peak_mib())
        began = time.perf_counter()
        made = original_publish(*arguments)  # type: ignore[arg-type]
        publishing.append(time.perf_counter() - began)
        peaks.append(peak_mib())
        return made

    empty_seconds = empty_tasks()
    with Processes(threads, timeout=120.0) as processes:  # the process server has then imported its libraries
        processes.run(abs, 1, warehouse.temporary("log"))

    original, original_publish = train.train_cell, publish.publish
    train.train_cell, publish.publish = trivial_cell, timed_publish  # type: ignore[assignment]
    try:
        state: Any = benchmark(
            source="sample:500",
            models=[MODEL],
            feature_sets=[FEATURE_SET],
            seeds=list(range(1, cells // 2 + 1)),
            budget="smoke",
            warehouse=str(warehouse.root),
            return_state=True,
        )
    finally:
        train.train_cell, publish.publish = original, original_publish
    run_id = str(state.result())
    [began] = pq.read_table(warehouse.table("runs", "started", run_id))["started_at"].to_pylist()
    [ended] = pq.read_table(warehouse.table("runs", "finished", run_id))["finished_at"].to_pylist()
    return Fanned(
        cells=cells,
        seconds=(ended - began).total_seconds(),
        empty_seconds=empty_seconds,
        peak_mib=peaks[0],
        published_mib=peaks[1],
        publish_seconds=publishing[0],
        plain_publish_seconds=_plain_publish(warehouse),
    )


def _plain_publish(warehouse: Warehouse) -> float:
    """Returns the seconds in which DuckDB alone makes tables of the stored results."""
    import duckdb

    began = time.perf_counter()
    with duckdb.connect(str(warehouse.temporary("plain"))) as connection:
        connection.execute("set enable_progress_bar = false")
        for name in ("result", "replicates"):
            files = str(warehouse.root / "cells" / "*" / f"{name}.parquet")
            connection.execute(f"create table {name} as from read_parquet('{files}')")
    return time.perf_counter() - began
