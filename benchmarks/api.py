"""Compares the HTTP API on loopback with the same models' plain `predict` of rows in memory.

    python -m benchmarks.api WAREHOUSE [--model multitask_tuned] [--seconds 5] [--requests 100000]

It measures latency and throughput. The server is a separate process; clients are threads of this one, with one
connection each, on the same cores. `Plain` calls the loaded models with prepared rows for every task, as in
benchmarks/predict.py. `GET /healthz` is the same server's answer without a prediction. With `--requests` it also sends
that many requests of one track, and shows the server's memory after each tenth of them.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import numpy as np
import polars as pl
import psutil

from benchmarks.predict import plain
from tasks.ingest.sample import generate
from tasks.prediction.champions import predictors
from tasks.prediction.http_api import MAX_TRACKS, Track
from tasks.prediction.predictor import Predictor, model_inputs
from tasks.prediction.preparation import read_rows
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse


@contextmanager
def serving(*options: str) -> Iterator[tuple[str, int]]:
    """Starts a server for the duration of the block. Yields: its address, and the id of its process."""
    command = [sys.executable, "-m", "flows.api", "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr or ():
            print(line, end="")
            if found := re.search(r"http://\S+:\d+", line):
                break
        else:
            raise SystemExit(1)
        try:
            yield found[0], process.pid
        finally:
            process.terminate()


def timed(call: Callable[[], object], seconds: float) -> list[float]:
    """Repeats a call until `seconds` have passed. Returns the seconds of each call."""
    call()
    took: list[float] = []
    while sum(took) < seconds:
        started = time.perf_counter()
        call()
        took.append(time.perf_counter() - started)
    return took


def show(label: str, took: list[float], tracks: int) -> None:
    p50, p99 = (1000 * np.quantile(took, share) for share in (0.5, 0.99))
    rate = tracks * len(took) / sum(took)
    print(f"{label:45} p50 {p50:7.1f} ms  p99 {p99:7.1f} ms  {rate:9,.0f} tracks/s  ({len(took)} calls)")


def beside_healthz(warehouse: Warehouse, tracks: int, seconds: float) -> tuple[float, float]:
    """Returns the median seconds of a request of `tracks` tracks, and those of GET /healthz, in turn on one connection.

    Args: seconds: duration of the measurement.
    """
    body = {"tracks": tracks_of_sample(tracks)}
    with (
        serving("--warehouse", warehouse.address) as (address, _),
        httpx.Client(base_url=address, timeout=60.0) as http,
    ):
        pairs: list[tuple[float, float]] = []

        def pair() -> None:
            started = time.perf_counter()
            http.post("/predict", json=body).raise_for_status()
            between = time.perf_counter()
            http.get("/healthz").raise_for_status()
            pairs.append((between - started, time.perf_counter() - between))

        timed(pair, seconds)
    predict, healthz = np.median(pairs, axis=0)
    return float(predict), float(healthz)


def tracks_of_sample(n: int) -> list[dict[str, object]]:
    """Returns `n` generated tracks in the form of a request."""
    names = [name for name in Track.model_fields if name != "track_id"]
    return pl.concat(generate(n, seed=1)).select(names).to_dicts()


def resident_mib(process: int) -> float:
    """Returns the resident memory of a process in MiB."""
    return psutil.Process(process).memory_info().rss / 2**20


def main() -> None:
    """Prints latencies and rates."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("warehouse", help="a warehouse with a finished run of cold_start")
    parser.add_argument("--model", help="measure this model instead of the champions")
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of each measurement")
    parser.add_argument("--requests", type=int, default=0, help="requests of one track for the server's memory")
    options = parser.parse_args()
    warehouse = Warehouse.at(options.warehouse)
    threads = os.cpu_count() or 1
    sample = tracks_of_sample(MAX_TRACKS)
    predictor = Predictor.load(predictors(warehouse, options.model, threads), warehouse, threads)
    models = list(predictor.models.values())
    for n in (1, MAX_TRACKS):
        with duck.workspace(warehouse.root / "tmp") as connection:
            read_rows(connection, sample[:n])
            prepared = predictor.prepare(connection, 1, n)
        chosen = [model.champion.candidate for model in models]
        inputs = [model_inputs(one, prepared[one.feature_version]) for one in chosen]
        show(f"plain predict in memory, {n} at once", timed(lambda x=inputs: plain(models, x), options.seconds), n)  # type: ignore[misc]
    named = ["--model", options.model] if options.model else []
    with serving("--warehouse", warehouse.address, *named) as (address, process):

        def client(n: int) -> list[float]:
            with httpx.Client(base_url=address, timeout=60.0) as http:
                body = {"tracks": sample[:n]}
                return timed(lambda: http.post("/predict", json=body).raise_for_status(), options.seconds)

        for n in (1, MAX_TRACKS):
            show(f"one client, {n} a request", client(n), n)
        with httpx.Client(base_url=address) as http:
            show("one client, GET /healthz", timed(lambda: http.get("/healthz").raise_for_status(), options.seconds), 0)
        for n, clients in ((1, 16), (MAX_TRACKS, 4)):
            with ThreadPoolExecutor(clients) as pool:
                took = [seconds for each in pool.map(client, [n] * clients) for seconds in each]
            show(f"{clients} clients, {n} a request", took, n * clients)
        with httpx.Client(base_url=address, timeout=60.0) as http:
            for number in range(1, options.requests + 1):
                http.post("/predict", json={"tracks": sample[number % MAX_TRACKS : number % MAX_TRACKS + 1]})
                if number % max(options.requests // 10, 1) == 0:
                    print(f"server's memory after {number:,} requests more: {resident_mib(process):,.0f} MiB")


if __name__ == "__main__":
    main()
