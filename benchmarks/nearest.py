"""Compares the search for nearest tracks by SQL over Parquet with brute force by NumPy over an array in memory.

    python -m benchmarks.nearest WAREHOUSE [--k 10] [--tracks 5]

Both search in turn, and find the same tracks, for each of several known tracks. NumPy has everything in memory as
float64 and only finds the k nearest rows. The SQL also reads the files, joins names, and lists each recording once.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.children import peak_mib
from tasks.feedback.nearest import Known, known_tracks, nearest
from tasks.feedback.track import selected_track
from tasks.specs import AUDIO_FEATURES
from tasks.storage.warehouse import Warehouse


def main() -> None:
    """Measures both sides, compares their results and prints the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("warehouse")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--tracks", type=int, default=5)
    options = parser.parse_args()
    warehouse = Warehouse.at(options.warehouse)
    known = known_tracks(warehouse)
    ids = pq.read_table(known.standardized, columns=["track_id"])["track_id"].to_numpy()
    some = [int(one) for one in ids[:: max(1, len(ids) // options.tracks)][: options.tracks]]
    before = peak_mib()
    print(f"first, nothing read before: {by_sql(some[0], options.k, known, warehouse)[1]:.2f} s")
    found = [by_sql(one, options.k, known, warehouse)[0] for one in some]
    after = peak_mib()
    frame = pl.read_parquet(known.standardized, columns=list(AUDIO_FEATURES))
    x = np.ascontiguousarray(frame.to_numpy())
    ours, plain = [], []
    for track_id, rows in zip(some, found, strict=True):
        seconds = by_sql(track_id, options.k, known, warehouse)[1]
        squares, alone = by_numpy(x, int(np.flatnonzero(ids == track_id)[0]), options.k)
        ours.append(seconds)
        plain.append(alone)
        there = np.sqrt(np.sort(squares[np.isin(ids, rows["track_id"].to_numpy())]))
        np.testing.assert_allclose(there, rows["distance"].to_numpy(), rtol=1e-9, atol=1e-9)
    median = statistics.median
    print(f"{len(ids):,} known tracks: SQL {median(ours):.2f} s, NumPy {median(plain):.2f} s (medians of {len(some)})")
    print(f"ratio, median of {len(some)} pairs in turn: {median(a / b for a, b in zip(ours, plain, strict=True)):.2f}")
    print(f"memory: SQL {after - before:,.0f} MiB on top of {before:,.0f}; NumPy's array {x.nbytes / 2**20:,.0f} MiB")


def by_sql(track_id: int, k: int, known: Known, warehouse: Warehouse) -> tuple[pa.Table, float]:
    """Returns the nearest tracks and the seconds it took to find them."""
    with selected_track(None, track_id, {}, known, warehouse) as chosen:
        started = time.perf_counter()
        return nearest(chosen.connection, known, 1, k, is_known=True), time.perf_counter() - started


def by_numpy(x: np.ndarray, at: int, k: int) -> tuple[np.ndarray, float]:
    """Returns the squared distances of all rows to one row, and the seconds for these and the k nearest."""
    started = time.perf_counter()
    difference = x - x[at]
    squares = np.einsum("ij,ij->i", difference, difference)
    np.argpartition(squares, k)
    return squares, time.perf_counter() - started


if __name__ == "__main__":
    main()
