"""Every benchmark that is a ratio to something run beside it: `make bench`.

    python -m benchmarks.suite                      write benchmarks/results/bench.json and bench.md
    python -m benchmarks.suite --check              fail if a ratio is over 1.5 times the committed one, three times

Ratios, because machines differ and are shared: ours / baseline, in the same run; lower is better, 1 is as fast.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from benchmarks import fits, orchestration, scale
from benchmarks.notebook_baseline import CLASSIFIERS, REGRESSORS
from flows.cli import prefect_server
from tasks.runs import REPORTED_VERSIONS

RESULTS = Path(__file__).parent / "results"
WORSE = 1.5
TRIES = 3
PREPARED_ROWS = 1_000_000
FITTED_ROWS = 3_000
PREDICTED_ROWS = 100_000
FAN_OUTS = (10, 100, 1_000)


@dataclass(frozen=True, slots=True)
class Measured:
    """One thing timed on both sides, in seconds (of the wall clock, or of the CPU: see `clock`)."""

    name: str
    baseline: str
    seconds: float
    baseline_seconds: float
    clock: str = "wall"
    note: str = ""

    @property
    def ratio(self) -> float:
        """Ours / baseline."""
        return self.seconds / self.baseline_seconds


def preparation(folder: Path) -> Iterator[Measured]:
    """Raw CSV to all feature tables."""
    from tasks.sample import write_sample

    csv = folder / "tracks.csv"
    write_sample(csv, PREPARED_ROWS)
    ours, *others = (scale.measure(engine, csv, folder / engine) for engine in ("music", "polars", "pandas"))
    for engine, found in zip(("polars, streaming", "pandas"), others, strict=True):
        yield Measured(
            f"prepare features ({engine})",
            f"the same steps in {engine}, {PREPARED_ROWS:,} rows",
            ours["cpu_seconds"],
            found["cpu_seconds"],
            "CPU",
            f"{ours['peak_mib']:,.0f} MiB beside {found['peak_mib']:,.0f} MiB",
        )


def models(folder: Path) -> Iterator[Measured]:
    """Fit and predict of each of the study's models."""
    from tasks.features import build_features
    from tasks.ingest import ingest
    from tasks.processes import Processes
    from tasks.warehouse import Warehouse

    home = Warehouse.at(folder / "fits")
    built = build_features(ingest(f"sample:{FITTED_ROWS}", {}, 0.05, home), "published", 20, home)
    table = next(home.root / row.path for row in built if row.table_name == "features.tracks_std")
    pairs = [("genre", name) for name in CLASSIFIERS] + [("popularity", name) for name in REGRESSORS]
    with Processes(1, 600.0) as processes:
        for task, model in [*pairs, ("multitask", "multitask")]:
            sides = []
            for is_ours in (True, False):
                ended = processes.run(fits.time_fit, fits.Fit(task, model, is_ours, table), home.temporary("log"))
                if ended.status != "ok":
                    raise SystemExit(f"{task} {model}: {ended.error}")
                sides.append(ended.value)
            (fit, predict), (plain_fit, plain_predict) = sides
            named = "the study's Keras model" if task == "multitask" else "the library's estimator, one thread"
            yield Measured(f"fit {task} {model}", named, fit, plain_fit, "CPU")
            if task != "multitask":
                yield Measured(f"predict {task} {model}", named, predict, plain_predict, "CPU")


def orchestrating(folder: Path) -> Iterator[Measured]:
    """Fan-outs of trivial cells, and the publication after each."""
    from tasks.warehouse import Warehouse

    orchestration.measure(2, Warehouse.at(folder / "warm"))  # the processes' server has then imported its libraries
    for cells in FAN_OUTS:
        home = Warehouse.at(folder / f"cells{cells}")
        found = orchestration.measure(cells, home)
        yield Measured(
            f"{cells:,} trivial cells",
            "as many empty Prefect tasks",
            found.seconds,
            found.empty_seconds,
            note=f"{1000 * found.seconds / cells:.0f} ms a cell; flow's process {found.peak_mib:,.0f} MiB",
        )
    yield Measured(
        f"publish {FAN_OUTS[-1]:,} cells",
        "DuckDB's plain tables of the same files",
        found.publish_seconds,
        found.plain_publish_seconds,
    )


def prediction(folder: Path) -> Iterator[Measured]:
    """A file of new tracks, end to end."""
    from benchmarks.predict import Timed, compare
    from flows.benchmark import benchmark
    from tasks.warehouse import Warehouse

    home = Warehouse.at(folder / "predict")
    benchmark(
        source="sample:5000", protocol="cold_start", budget="full", models=["xgboost_tuned"], warehouse=str(home.root)
    )
    found: Timed = compare(home, PREDICTED_ROWS, None, "Parquet")
    yield Measured(
        f"predict {PREDICTED_ROWS:,} tracks from Parquet",
        "the model's own predict on prepared rows in memory",
        found.ours.cpu,
        found.plain.cpu,
        "CPU",
        f"{PREDICTED_ROWS / found.ours.wall:,.0f} rows a second",
    )


def start_up(folder: Path) -> Iterator[Measured]:
    """Commands, before they do anything."""
    for command in ("benchmark", "query"):
        sides = []
        for arguments in (["-m", f"flows.{command}", "--help"], ["-c", "from prefect import flow"]):
            seconds = []
            for _ in range(3):
                began = time.perf_counter()
                subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
                seconds.append(time.perf_counter() - began)
            sides.append(min(seconds))
        ours, plain = sides
        yield Measured(f"start flows.{command}", "importing Prefect alone", ours, plain)


PARTS: dict[str, Callable[[Path], Iterator[Measured]]] = {
    "preparation": preparation,
    "models": models,
    "prediction": prediction,
    "orchestration": orchestrating,
    "start-up": start_up,
}


def measure(parts: list[str]) -> dict[str, list[Measured]]:
    """Run parts, printing what each finds."""
    found: dict[str, list[Measured]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            at = Path(folder) / part
            at.mkdir()
            found[part] = []
            for one in PARTS[part](at):
                print(f"{one.ratio:8.2f}  {one.name}, beside {one.baseline}  {one.note}", flush=True)
                found[part].append(one)
    return found


def write(found: list[Measured]) -> None:
    """Keep the figures, with the machine and the versions they are of."""
    RESULTS.mkdir(exist_ok=True)
    versions = {name: metadata.version(name) for name in REPORTED_VERSIONS if _is_installed(name)}
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
    }
    rows = [asdict(one) | {"ratio": one.ratio} for one in found]
    (RESULTS / "bench.json").write_text(json.dumps({**about, "measured": rows}, indent=1) + "\n")
    lines = [
        f"Measured on {about['date']}, {about['cpu_count']} cores ({about['machine']}), Python {about['python']}, "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ". Ratio: ours / baseline in the same run, lower is better. `make bench` measures again.",
        "",
        "| what | beside | ratio | ours, s | baseline, s | clock | note |",
        "|---|---|--:|--:|--:|---|---|",
        *(
            f"| {one.name} | {one.baseline} | {one.ratio:.2f} | {one.seconds:.4g} | {one.baseline_seconds:.4g} | "
            f"{one.clock} | {one.note} |"
            for one in found
        ),
    ]
    (RESULTS / "bench.md").write_text("\n".join(lines) + "\n")


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def check(parts: list[str]) -> int:
    """Whether every ratio is within 1.5 times the committed one, in at least one of three tries. Returns: exit code."""
    rows = json.loads((RESULTS / "bench.json").read_text())["measured"]
    committed = {row["name"]: row["ratio"] for row in rows}
    baselines = {row["name"]: row["baseline"] for row in rows}
    best: dict[str, float] = {}
    for attempt in range(TRIES):
        found = measure(parts)
        for one in itertools.chain(*found.values()):
            if one.baseline != baselines.get(one.name, one.baseline):
                print(f"{one.name}: is measured beside something else now. Commit a new `make bench`.", file=sys.stderr)
                return 1
            best[one.name] = min(one.ratio, best.get(one.name, math.inf))
        worse = {name for name, ratio in best.items() if ratio > WORSE * committed.get(name, math.inf)}
        if not worse:
            print(f"No ratio is over {WORSE} times the committed one.")
            return 0
        print(f"Try {attempt + 1} of {TRIES}: over {WORSE} times the committed ratio: {', '.join(sorted(worse))}")
        parts = [part for part, measured in found.items() if worse & {one.name for one in measured}]
    for name in sorted(worse):
        print(f"{name}: {best[name]:.2f} at best, {committed[name]:.2f} committed", file=sys.stderr)
    return 1


def main() -> int:
    """The command `python -m benchmarks.suite`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed figures; write nothing")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS), help=", ".join(PARTS))
    options = parser.parse_args()
    with prefect_server():
        pass
    if options.check:
        return check(options.parts)
    write([*itertools.chain(*measure(options.parts).values())])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
