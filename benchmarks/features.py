"""Compares feature preparation, from raw CSV to all published tables, with the study's scripts in pandas.

    python -m benchmarks.features musicData.csv

Both run in this process, in turn, after their libraries are imported. The study's scripts pass CSV files to each other.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import sklearn.model_selection  # noqa: F401 - imported here so that neither side is charged for it

from benchmarks import study
from tasks.features.build import build_features
from tasks.ingest.read import ingest
from tasks.storage.warehouse import Warehouse


def main() -> None:
    """Prints the median seconds of each side, and the ratio of each pair."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("csv", type=Path, help="the real raw file")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    ours, theirs = [], []
    for run in range(arguments.runs + 1):
        with tempfile.TemporaryDirectory() as folder:
            warehouse = Warehouse.at(Path(folder) / "warehouse")
            started = time.perf_counter()
            build_features(ingest(str(arguments.csv), {}, 0.05, warehouse), "published", 20, warehouse)
            between = time.perf_counter()
            study.run_scripts(arguments.csv, Path(folder) / "study")
            ended = time.perf_counter()
        if run:  # the first pair is a warm-up
            ours.append(between - started)
            theirs.append(ended - between)
    ratios = sorted(their / our for our, their in zip(ours, theirs, strict=True))
    print(f"this project {statistics.median(ours):.2f} s, the study's scripts {statistics.median(theirs):.2f} s")
    print(f"ratio {statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f}) over {arguments.runs} pairs")


if __name__ == "__main__":
    main()
