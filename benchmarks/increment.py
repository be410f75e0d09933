"""Compares the cost of appending tracks with that of a full build: `python -m benchmarks.increment`.

The generated file has two parts, of --rows and --more rows. Three measurements run one after the other, each in a
separate process: ingest and features of both parts as one file; then, in a warehouse that has the first part, appending
the second with statistics relearned, and with statistics kept. Times are CPU seconds, which other work on the machine
affects less.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

from benchmarks.children import child

WAYS = ("full", "relearned", "kept")


def write_parts(rows: int, more: int, folder: Path) -> None:
    """Writes generated tracks with ids to base.csv and new.csv, and both to whole.csv."""
    from tasks.ingest.sample import generate

    written = 0
    with (folder / "base.csv").open("wb") as base, (folder / "new.csv").open("wb") as new:
        for chunk in generate(rows + more):
            cut = min(max(rows - written, 0), chunk.height)
            for file, part in ((base, chunk[:cut]), (new, chunk[cut:])):
                part.write_csv(file, include_header=file.tell() == 0)
            written += chunk.height
    with (folder / "whole.csv").open("wb") as whole:
        whole.write((folder / "base.csv").read_bytes())
        with (folder / "new.csv").open("rb") as new:
            new.readline()
            shutil.copyfileobj(new, whole)


def _child(way: str, protocol: str, folder: Path) -> None:
    import sklearn.model_selection  # noqa: F401 - libraries are loaded before the time is measured

    from tasks.features.build import build_features
    from tasks.ingest.read import Append, ingest
    from tasks.storage.warehouse import Warehouse

    warehouse = Warehouse.at(folder / ("whole" if way == "full" else "appended"))
    append = None
    if way in {"relearned", "kept"}:
        base = ingest(str(folder / "base.csv"), {}, 0.05, warehouse)
        append = Append(base.snapshot, "kept" if way == "kept" else "relearned")
    before, started = time.process_time(), time.perf_counter()
    name = {"full": "whole", "base": "base"}.get(way, "new")
    snapshot = ingest(str(folder / f"{name}.csv"), {}, 0.05, warehouse, append)
    ingested = time.process_time()
    build_features(snapshot, protocol, 20, warehouse)
    ended = time.process_time()
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "ingest": ingested - before, "features": ended - ingested}))


def _measure(way: str, protocol: str, folder: Path) -> dict[str, float]:
    return child("benchmarks.increment", "--child", way, protocol, str(folder))


def main() -> None:
    """Prints one row for each way, with its ratio to the full build."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--more", type=int, default=100_000)
    parser.add_argument("--protocol", default="cold_start")
    parser.add_argument(
        "--folder", type=Path, default=Path("warehouse/tmp/increment"), help="folder for temporary files"
    )
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        way, protocol, folder = options.child
        _child(way, protocol, Path(folder))
        return
    folder = options.folder.resolve()
    folder.mkdir(parents=True)
    try:
        write_parts(options.rows, options.more, folder)
        print(f"{options.protocol}: {options.rows:,} rows, {options.more:,} more")
        print(f"{'':10} {'seconds':>8} {'CPU s':>7} {'ingest':>7} {'features':>8} {'of full':>8}")
        _measure("base", options.protocol, folder)
        cpu: dict[str, float] = {}
        for way in WAYS:
            found = _measure(way, options.protocol, folder)
            cpu[way] = found["ingest"] + found["features"]
            share = cpu[way] / cpu["full"]
            print(
                f"{way:10} {found['seconds']:8.1f} {cpu[way]:7.1f} {found['ingest']:7.1f} {found['features']:8.1f} "
                f"{share:8.2f}",
                flush=True,
            )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
