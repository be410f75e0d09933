"""Runs all benchmarks that compare this project with a baseline: `make bench`.

    python -m benchmarks.suite                      write benchmarks/results/bench.json and bench.md
    python -m benchmarks.suite --parts models       measure some parts only; the figures of the others stay
    python -m benchmarks.suite --check              fail if a ratio is over twice the committed one, five times

Figures are ratios, because machines differ and are shared: ours / baseline, in the same run. Lower is better, 1 is as
fast.
"""

from __future__ import annotations

import argparse
import itertools
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import fan_outs, fits, orchestration, records, scale
from benchmarks.notebook_baseline import CLASSIFIERS, REGRESSORS
from benchmarks.records import RESULTS
from tasks.specs import AUDIO_FEATURES, FEATURE_SETS

WORSE = 2  # ratios of the same code differ by up to 1.7 between processors (predict genre svm: 0.16 and 0.27)
TRIES = 5
PREPARED_ROWS = 1_000_000
FITTED_ROWS = 3_000
# Of the MLP: as many as the study's, after whose 300 epochs on these columns some of its weights are subnormal numbers.
MANY_FITTED_ROWS = 50_000
PREDICTED_ROWS = 100_000
ANSWERING_SECONDS = 5.0
FEW, SOME, MANY = 10, 100, 1_000  # trivial cells


@dataclass(frozen=True, slots=True)
class Measured:
    """A measurement of both sides, in seconds of the wall clock or of the CPU (see `clock`).

    Args: limit: seconds above which ours must not be committed.
    """

    name: str
    baseline: str
    seconds: float
    baseline_seconds: float
    clock: str = "wall"
    note: str = ""
    limit: float | None = None

    @property
    def ratio(self) -> float:
        """Ours / baseline."""
        return self.seconds / self.baseline_seconds


def preparation(folder: Path) -> Iterator[Measured]:
    """Measures preparation, from raw CSV to all feature tables."""
    from tasks.ingest.sample import write_sample

    csv = folder / "tracks.csv"
    write_sample(csv, PREPARED_ROWS)
    ours, *others = (scale.measure(engine, csv, folder / engine) for engine in ("music", "polars", "pandas"))
    beside = {
        "polars, streaming": "the same steps in polars, streaming",
        "pandas": "the study's steps in pandas, in memory, without raw rows and rejects",
    }
    for (engine, baseline), found in zip(beside.items(), others, strict=True):
        yield Measured(
            f"prepare features ({engine})",
            f"{baseline}, {PREPARED_ROWS:,} rows",
            ours["cpu_seconds"],
            found["cpu_seconds"],
            "CPU",
            f"{ours['peak_mib']:,.0f} MiB beside {found['peak_mib']:,.0f} MiB",
        )


def models(folder: Path, only: Collection[str] = ()) -> Iterator[Measured]:
    """Measures fit and predict of each of the study's models. Args: only: names to measure; by default all."""
    from tasks.compute.processes import Processes
    from tasks.features.build import build_features
    from tasks.ingest.read import ingest
    from tasks.storage.warehouse import Warehouse

    warehouse = Warehouse.at(folder / "fits")

    def standardized(rows: int) -> Path:
        built = build_features(ingest(f"sample:{rows}", {}, 0.05, warehouse), "published", 20, warehouse)
        return next(warehouse.root / row.path for row in built if row.table_name == "features.tracks_std")

    pairs = [("genre", name) for name in CLASSIFIERS] + [("popularity", name) for name in REGRESSORS]
    chosen: list[tuple[str, str, int, tuple[str, ...]]] = [
        *((*pair, FITTED_ROWS, AUDIO_FEATURES) for pair in [*pairs, ("multitask", "multitask")]),
        ("genre", "mlp", MANY_FITTED_ROWS, tuple(FEATURE_SETS["rhythm"].columns)),
    ]
    with Processes(1, 600.0) as processes:
        for task, model, rows, features in chosen:
            name = f"{task} {model}" if rows == FITTED_ROWS else f"{task} {model} on rhythm, {rows:,} tracks"
            if only and not {f"fit {name}", f"predict {name}"} & {*only}:
                continue
            table = standardized(rows)  # built once
            sides = []
            for is_ours in (True, False):
                fit_of_side = fits.Fit(task, model, is_ours, table, features)
                ended = processes.run(fits.time_fit, fit_of_side, warehouse.temporary("log"))
                if ended.status != "ok":
                    raise SystemExit(f"{name}: {ended.error}")
                sides.append(ended.value)
            (fit, predict), (plain_fit, plain_predict) = sides
            named = "the study's Keras model" if task == "multitask" else "the library's estimator, one thread"
            yield Measured(f"fit {name}", named, fit, plain_fit, "CPU")
            if task != "multitask":
                yield Measured(f"predict {name}", named, predict, plain_predict, "CPU")


def orchestrating(folder: Path) -> Iterator[Measured]:
    """Measures small fan-outs of trivial cells with Prefect's temporary server, and one with a standing server."""
    for cells in (FEW, SOME):
        yield _fanned(fan_outs.fan_out(cells, folder / f"cells{cells}"), "temporary")
    yield from _with_server((SOME,), folder)


def large_fan_outs(folder: Path) -> Iterator[Measured]:
    """Measures large fan-outs and their publication, and the smallest with a standing server: too long to check."""
    found = fan_outs.fan_out(MANY, folder / f"cells{MANY}")
    yield _fanned(found, "temporary")
    yield Measured(
        f"publish {MANY:,} cells",
        "DuckDB's plain tables of the same files",
        found.publish_seconds,
        found.plain_publish_seconds,
    )
    yield from _with_server((FEW, MANY), folder)


def _with_server(sizes: tuple[int, ...], folder: Path) -> Iterator[Measured]:
    with fan_outs.standing_server(folder / "server") as url:
        for cells in sizes:
            yield _fanned(fan_outs.fan_out(cells, folder / f"standing{cells}", url), "standing")


def _fanned(found: orchestration.Fanned, server: str) -> Measured:
    return Measured(
        f"{found.cells:,} trivial cells, {server} server",
        "as many empty Prefect tasks",
        found.seconds,
        found.empty_seconds,
        note=f"{1000 * found.seconds / found.cells:.0f} ms a cell; flow's process {found.peak_mib:,.0f} MiB "
        f"when they have ended, {found.published_mib:,.0f} after publication",
        limit=found.cells * orchestration.MOST_SECONDS_A_CELL,
    )


def prediction(folder: Path) -> Iterator[Measured]:
    """Measures the prediction of a file of new tracks, from file to file, and of one track by HTTP."""
    from benchmarks.api import beside_healthz
    from benchmarks.predict import Timed, compare
    from tasks.storage.warehouse import Warehouse

    warehouse = Warehouse.at(folder / "predict")
    # In a separate process, so that Prefect's temporary server ends with it.
    what = ["--source", "sample:5000", "--protocol", "cold_start", "--budget", "full", "--models", "xgboost_tuned"]
    command = [sys.executable, "-m", "flows.benchmark", *what, "--warehouse", warehouse.address]
    subprocess.run(command, check=True, capture_output=True)
    found: Timed = compare(warehouse, PREDICTED_ROWS, None, "Parquet")
    yield Measured(
        f"predict {PREDICTED_ROWS:,} tracks from Parquet",
        "the model's own predict on prepared rows in memory",
        found.ours.cpu,
        found.plain.cpu,
        "CPU",
        f"{PREDICTED_ROWS / found.ours.wall:,.0f} rows a second",
    )
    predict, healthz = beside_healthz(warehouse, 1, ANSWERING_SECONDS)
    yield Measured(
        "predict one track by HTTP",
        "GET /healthz of the same server, the same client",
        predict,
        healthz,
        note=f"{1000 * predict:.1f} ms beside {1000 * healthz:.1f} ms, medians",
    )


def start_up(folder: Path) -> Iterator[Measured]:
    """Measures how long commands take to start."""
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
    "large fan-outs": large_fan_outs,
}
UNCHECKED = "large fan-outs"


def measure(parts: list[str], only: Collection[str] = ()) -> dict[str, list[Measured]]:
    """Runs parts and prints their figures. Args: only: names that are needed; a part may measure more."""
    found: dict[str, list[Measured]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            at = Path(folder) / part
            at.mkdir()
            found[part] = []
            for one in models(at, only) if part == "models" else PARTS[part](at):
                print(f"{one.ratio:8.2f}  {one.name}, beside {one.baseline}  {one.note}", flush=True)
                found[part].append(one)
    return found


def write(found: dict[str, list[Measured]]) -> None:
    """Stores the figures of the parts that ran, with machine, versions and day; those of other parts stay."""
    rows = {part: {"measured": [asdict(one) | {"ratio": one.ratio} for one in of]} for part, of in found.items()}
    kept = records.merge(RESULTS / "bench.json", rows)
    lines = [
        "Ratio: ours / baseline in the same run, lower is better. `make bench` measures again.",
        "",
        *(f"- {origin}" for origin in records.origins(kept)),
        "",
        "| part | what | beside | ratio | ours, s | baseline, s | clock | note |",
        "|---|---|---|--:|--:|--:|---|---|",
        *(
            f"| {part} | {{name}} | {{baseline}} | {{ratio:.2f}} | {{seconds:.4g}} | {{baseline_seconds:.4g}} | "
            "{clock} | {note} |".format(**one)
            for part in PARTS
            if part in kept
            for one in kept[part]["measured"]
        ),
    ]
    (RESULTS / "bench.md").write_text("\n".join(lines) + "\n")


def check(parts: list[str]) -> int:
    """Checks that every ratio is within twice the committed one, in at least one of five tries.

    The measured names must be the committed ones. Ratios that were too high are measured again.

    Returns: the exit code.
    """
    kept = records.read(RESULTS / "bench.json")
    committed = {row["name"]: row for part in parts if part in kept for row in kept[part]["measured"]}
    best: dict[str, float] = {}
    worse: list[str] = []
    for attempt in range(TRIES):
        found = measure(parts, worse)
        measured = {one.name: one for one in itertools.chain(*found.values())}
        if attempt == 0 and (differing := _differing(measured, committed)):
            print("\n".join([*differing, "Commit a new `make bench`."]), file=sys.stderr)
            return 1
        for name, one in measured.items():
            best[name] = min(one.ratio, best.get(name, math.inf))
        worse = sorted(name for name in best if best[name] > WORSE * committed[name]["ratio"])
        if not worse:
            print(f"No ratio is over {WORSE} times the committed one.")
            return 0
        told = "; ".join(
            f"{name}: {best[name]:.2f} at best, {committed[name]['ratio']:.2f} committed" for name in worse
        )
        print(f"Try {attempt + 1} of {TRIES}: {told}")
        parts = [part for part, of in found.items() if {*worse} & {one.name for one in of}]
    print(told, file=sys.stderr)
    return 1


def _differing(measured: dict[str, Measured], committed: dict[str, records.Record]) -> list[str]:
    """Returns a line for each name that is only committed, only measured, or has another baseline."""
    return [
        *(f"{name}: is not in bench.json." for name in measured if name not in committed),
        *(f"{name}: is in bench.json, but is not measured any more." for name in committed if name not in measured),
        *(
            f"{name}: is measured beside something else now."
            for name, one in measured.items()
            if name in committed and one.baseline != committed[name]["baseline"]
        ),
    ]


def too_slow(found: dict[str, list[Measured]]) -> list[str]:
    """Returns a line for each measurement that exceeds its limit."""
    return [
        f"{one.name}: {one.seconds:.3g} s, of which {one.limit:.3g} are allowed. Nothing was written."
        for one in itertools.chain(*found.values())
        if one.limit is not None and one.seconds > one.limit
    ]


def parts_of(text: str) -> list[str]:
    """Parses names of parts. Raises: argparse.ArgumentTypeError: one is unknown."""
    parts = text.split(",")
    if unknown := set(parts) - set(PARTS):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    return parts


def main() -> int:
    """The command `python -m benchmarks.suite`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed figures; write nothing")
    parser.add_argument(
        "--parts",
        type=parts_of,
        help=f"some of {', '.join(PARTS)}; by default all, with --check all except {UNCHECKED}",
    )
    options = parser.parse_args()
    if options.check:
        return check(options.parts or [part for part in PARTS if part != UNCHECKED])
    found = measure(options.parts or list(PARTS))
    if over := too_slow(found):
        print("\n".join(over), file=sys.stderr)
        return 1
    write(found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
