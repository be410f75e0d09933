"""Compares feature preparation at scale with polars (streaming) and pandas (benchmarks/engines.py).

    python -m benchmarks.scale --rows 1000000,10000000 --engines music,polars,pandas
    MUSIC_MEMORY_LIMIT=8GB python -m benchmarks.scale --rows 50000000 --engines music --record

Each engine reads the same generated CSV in a separate process and writes the tables of a protocol. --record stores the
figures in benchmarks/results/scale.json and scale.md, where they replace those of the same rows, engine and protocol.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks import engines, records
from benchmarks.children import child, peak_mib
from benchmarks.records import RESULTS, Record
from tasks.specs import PROBES, PROTOCOLS
from tasks.storage.duck import MEMORY_LIMIT

PUBLISHED = "published"
OTHERS = {"polars": engines.prepare_polars, "pandas": engines.prepare_pandas}
ENGINES = ("music", *OTHERS)
LEAST_ROWS = 1_000


def measure(engine: str, csv: Path, out: Path, protocol: str = PUBLISHED) -> dict[str, float]:
    """Runs an engine in a separate process. Returns seconds, cpu_seconds, peak_mib and disk_mib."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    return child("benchmarks.scale", "--child", engine, str(csv), str(out), "--protocol", protocol)


def _child(engine: str, csv: Path, out: Path, protocol: str) -> None:
    import sklearn.model_selection  # noqa: F401 - every engine's libraries are loaded before the time is measured

    threading.excepthook = lambda _: os._exit(1)
    before, started = time.process_time(), time.perf_counter()
    if engine == "music":
        engines.prepare_music(csv, out, protocol)
    else:
        OTHERS[engine](csv, out)
    seconds, cpu = time.perf_counter() - started, time.process_time() - before
    sizes = {file.stat().st_ino: file.stat().st_size for file in out.rglob("*") if file.is_file()}
    disk = sum(sizes.values()) / 2**20
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak_mib(), "disk_mib": disk}))


def exponents(rows: Iterable[Record]) -> list[str]:
    """Returns how time grows with the rows, one line per engine and protocol with at least two sizes.

    The exponent is the least-squares slope of the logarithm of seconds over that of the rows: 1 is linear.
    """
    series: dict[tuple[str, str], list[Record]] = {}
    for row in rows:
        series.setdefault((row["engine"], row["protocol"]), []).append(row)
    lines = []
    for (engine, protocol), sizes in series.items():
        if len({row["rows"] for row in sizes}) > 1:
            n = np.log([row["rows"] for row in sizes])
            wall, cpu = (np.polyfit(n, np.log([row[of] for row in sizes]), 1)[0] for of in ("seconds", "cpu_seconds"))
            lines.append(
                f"{engine}, {protocol}, {len(sizes)} sizes: seconds grow with rows ** {wall:.2f}, "
                f"CPU seconds with rows ** {cpu:.2f}"
            )
    return lines


def record(rows: list[Record]) -> None:
    """Stores rows with the machine, versions and day; those of other sizes, engines and protocols stay."""
    found = {f"{row['rows']:,} {row['engine']} {row['protocol']}": row for row in rows}
    kept = records.merge(RESULTS / "scale.json", found)
    kept = dict(sorted(kept.items(), key=lambda item: (item[1]["protocol"], item[1]["rows"], item[1]["engine"])))
    lines = [
        "Raw CSV of generated tracks to all tables of a protocol, by `python -m benchmarks.scale --record`.",
        "",
        *(f"- {origin}" for origin in records.origins(kept)),
        "",
        "| protocol | rows | engine | memory limit | seconds | CPU s | rows/CPU s | peak MiB | disk MiB |",
        "|---|--:|---|---|--:|--:|--:|--:|--:|",
        *(
            f"| {row['protocol']} | {row['rows']:,} | {row['engine']} | {row['limit'] or ''} | {row['seconds']:.1f} | "
            f"{row['cpu_seconds']:.1f} | {row['rows'] / row['cpu_seconds']:,.0f} | {row['peak_mib']:,.0f} | "
            f"{row['disk_mib']:,.0f} |"
            for row in kept.values()
        ),
        "",
        *(f"- {line}" for line in exponents(kept.values())),
    ]
    (RESULTS / "scale.md").write_text("\n".join(lines) + "\n")


def sizes_of(text: str) -> list[int]:
    """Parses numbers of rows. Raises: argparse.ArgumentTypeError: one is not a number, or too small to split."""
    try:
        sizes = [int(size) for size in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of sizes such as 1000000,10000000") from None
    if min(sizes) < LEAST_ROWS:
        raise argparse.ArgumentTypeError(f"at least {LEAST_ROWS:,} rows are needed")
    return sizes


def engines_of(text: str) -> list[str]:
    """Parses names of engines. Raises: argparse.ArgumentTypeError: one is unknown."""
    names = text.split(",")
    if unknown := set(names) - set(ENGINES):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(ENGINES)}")
    return names


def options() -> argparse.Namespace:
    """Parses the command's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--rows", type=sizes_of, default=[1_000_000], help="sizes of the generated file, such as 1000000,10000000")
    add("--engines", type=engines_of, default=list(ENGINES), help=f"of {', '.join(ENGINES)}; by default all")
    add(
        "--protocol",
        choices=[*PROTOCOLS, *PROBES],
        default=PUBLISHED,
        help="a protocol other than published is for engine music only",
    )
    add("--record", action="store_true", help="store the figures in benchmarks/results/scale.json and scale.md")
    add("--folder", type=Path, default=Path("warehouse/tmp/scale"), help="folder for temporary files")
    add("--keep", action="store_true", help="keep the generated files in the folder for the next time")
    add("--child", nargs=3, metavar=("ENGINE", "CSV", "OUT"), help=argparse.SUPPRESS)
    found = parser.parse_args()
    if found.protocol != PUBLISHED and found.engines != ["music"] and not found.child:
        parser.error(f"--protocol {found.protocol}: the other engines only prepare published; give --engines music")
    return found


def main() -> None:
    """Prints one row per engine and size, and how time grows over the sizes."""
    given = options()
    if given.child:
        engine, csv, out = given.child
        _child(engine, Path(csv), Path(out), given.protocol)
        return
    from tasks.ingest.sample import write_sample

    rows: list[Record] = []
    print(f"{'rows':>11} {'engine':8} {'seconds':>8} {'CPU s':>8} {'rows/CPU s':>11} {'peak MiB':>9} {'disk MiB':>9}")
    for size in given.rows:
        given.folder.mkdir(parents=True, exist_ok=True)
        csv = given.folder / f"{size}.csv"
        if not csv.exists():
            write_sample(csv.with_suffix(".tmp"), size)
            csv.with_suffix(".tmp").rename(csv)
        for engine in given.engines:
            found = measure(engine, csv, given.folder / engine, given.protocol)
            shutil.rmtree(given.folder / engine)
            limit = (os.environ.get("MUSIC_MEMORY_LIMIT") or MEMORY_LIMIT) if engine == "music" else None
            rows.append({"rows": size, "engine": engine, "protocol": given.protocol, "limit": limit, **found})
            print(
                f"{size:>11,} {engine:8} {found['seconds']:8.1f} {found['cpu_seconds']:8.1f} "
                f"{size / found['cpu_seconds']:11,.0f} {found['peak_mib']:9,.0f} {found['disk_mib']:9,.0f}",
                flush=True,
            )
            if given.record:
                record(rows[-1:])
        if not given.keep:
            csv.unlink()
    for line in exponents(rows):
        print(line)


if __name__ == "__main__":
    main()
