"""Compares the project's models with other libraries' on the same rows: CatBoost, LightGBM, their mean, AutoGluon.

    pip install -e '.[peers]'
    python -m benchmarks.peers WAREHOUSE [--protocol cold_start] [--record]
    python -m benchmarks.peers WAREHOUSE --peers autogluon --python ag/bin/python --record

The rows are those of the published tracks, as the project's own cells read them. Peers have ordinary settings: the
library's default trees, as many as are best on the validation rows. What is not installed is left out. The project's
models stand beside them with their stored results on the same test rows. What one of them, --beside, is ahead of each
peer is paired: both see the same bootstrap resamples.

Each fit runs in a process of its own (benchmarks/peer_fits.py), which needs only NumPy and the library. AutoGluon and
this project need other versions of the same packages, so AutoGluon has an environment of its own:
`python -m venv ag`, then `ag/bin/pip install 'autogluon.tabular[catboost,fastai,lightgbm,xgboost]'`.

--record stores the figures in benchmarks/results/peers.json and peers.md, where they replace those of the same peer and
protocol.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import records
from benchmarks.children import child
from benchmarks.peer_fits import PEERS
from benchmarks.records import Record
from tasks.errors import UserError
from tasks.evaluation import bootstrap, metrics
from tasks.models.rows import Data
from tasks.prediction.candidates import lineage
from tasks.results.database import published
from tasks.results.run_queries import rows as rows_of
from tasks.specs import BUDGETS, GENERATED, HEADLINES, METRICS, PROTOCOLS, STUDY_SEED, Cell, Task
from tasks.storage.warehouse import Warehouse
from tasks.training import train
from tasks.training.cell_files import read_replicates
from tasks.training.jobs import make_jobs

BOOSTED = ("xgboost", "lightgbm", "catboost")
MEAN = "mean of " + ", ".join(BOOSTED)
SHOWN: dict[Task, tuple[str, ...]] = {"genre": ("accuracy", "f1_macro", "log_loss"), "popularity": ("rmse",)}
Resampled = Mapping[str, tuple[float, np.ndarray]]  # by metric: its value and its bootstrap replicates


@dataclass(frozen=True, slots=True)
class Case:
    """The rows of a protocol that all models are fitted to and judged on."""

    protocol: str
    budget: str
    source: str  # what the tracks were read from
    is_generated: bool
    data: Data
    n_genres: int

    @property
    def facts(self) -> Record:
        """What a record says of the rows. Figures of equal facts can be compared."""
        named = ("protocol", "budget", "source", "is_generated")
        test_rows = metrics.digest_of_rows(self.data.track_id["test"])
        return {name: getattr(self, name) for name in named} | {"test_rows": test_rows}


def load(protocol: str, budget: str, warehouse: Warehouse) -> Case:
    """Reads the rows that a cell with all features is trained on, of the published tracks.

    Raises: UserError: the published tracks have no tables of this protocol.
    """
    with published(warehouse) as connection:
        built = rows_of(
            connection,
            """
            select registry.version, snapshots.source, snapshots.is_generated
            from features.registry as registry
            inner join raw.snapshots as snapshots on registry.snapshot = snapshots.snapshot
            where
                snapshots.is_published
                and registry.table_name = 'features.tracks_std'
                and registry.protocol = $protocol
            order by registry.built_at desc
            """,
            protocol=protocol,
        )
    if not built:
        raise UserError(f"{warehouse.address}: has no tables of {protocol}. python -m flows.features makes them.")
    tables = [*lineage(built[0]["version"], warehouse).values()]
    cell = Cell(protocol=protocol, task="genre", model="xgboost", feature_set="all", seed=STUDY_SEED, budget=budget)
    [job] = make_jobs([cell], tables, "peers", warehouse, 1)
    of = {name: built[0][name] for name in ("source", "is_generated")}
    return Case(protocol, budget, **of, data=train.load(job), n_genres=len(job.genres))


def fits(case: Case, given: argparse.Namespace, beside: Mapping[Task, Resampled]) -> Iterator[Record]:
    """Fits each peer to each task, and yields its figures on the test rows; then those of the mean of BOOSTED.

    Args: beside: a model of this project, by task.
    """
    data = case.data
    for task in SHOWN:
        predicted: dict[str, np.ndarray] = {}
        seconds: dict[str, float] = {}
        with tempfile.TemporaryDirectory() as folder:
            rows, out = Path(folder) / "rows.npz", Path(folder) / "predicted.npy"
            arrays = {f"x_{split}": part for split, part in data.x.items()}
            arrays |= {f"y_{split}": data.y[task][split] for split in ("train", "val")}
            np.savez(rows, **arrays)  # type: ignore[arg-type]
            for peer in given.peers:
                options = {"genres": case.n_genres, "threads": given.threads, "seed": STUDY_SEED}
                options |= {"rounds": given.rounds, "seconds": given.seconds}
                words = [f"--{name}={value}" for name, value in options.items()]
                found = child("benchmarks.peer_fits", peer, task, str(rows), str(out), *words, python=given.python)
                if found["version"] is None:
                    print(f"{task} {peer}: is not installed, and left out", flush=True)
                    continue
                predicted[peer], seconds[peer] = np.load(out), found["fit_seconds"]
                library = f"{peer} {found['version']}"
                facts = {"library": library, "threads": given.threads, "fit_seconds": seconds[peer]}
                yield _record(task, peer, facts, predicted[peer], case, given.beside, beside.get(task, {}))
        if predicted.keys() >= {*BOOSTED}:
            mean = np.mean([predicted[peer] for peer in BOOSTED], axis=0)
            total = sum(seconds[peer] for peer in BOOSTED)
            facts = {"library": "", "threads": given.threads, "fit_seconds": total}
            yield _record(task, MEAN, facts, mean, case, given.beside, beside.get(task, {}))


def _record(
    task: Task, peer: str, facts: Record, found: np.ndarray, case: Case, model: str, beside: Resampled
) -> Record:
    """Returns a peer's figures, and what a model of this project is ahead of it."""
    resampled = figures(task, found, case.data)
    best = HEADLINES[task].name
    low, high = bootstrap.percentile_interval(resampled[best][1])
    leads = {
        metric: [value - resampled[metric][0], *bootstrap.percentile_interval(replicates - resampled[metric][1])]
        for metric, (value, replicates) in beside.items()
    }
    named = {"task": task, "model": peer, **facts, "low": low, "high": high, "beside": model, "leads": leads}
    return case.facts | named | {metric: value for metric, (value, _) in resampled.items()}


def figures(task: Task, found: np.ndarray, data: Data) -> Resampled:
    """Returns the metrics on the test rows that are shown.

    Args: found: probabilities, (n_rows, n_genres), or points, (n_rows,).
    """
    y_true = data.y[task]["test"]
    y_pred = found.argmax(axis=1) if task == "genre" else found
    shares = found if task == "genre" else None
    scores = metrics.score(task, y_true, y_pred)
    if shares is not None:
        scores |= metrics.probability_scores(y_true, shares)
    everything = {"all": np.ones(len(y_true), dtype=bool)}
    resampled = bootstrap.replicates(task, y_true, y_pred, shares, everything, data.units["test"])
    return {name: (scores[name], resampled["all", name]) for name in SHOWN[task]}


def ours(case: Case, warehouse: Warehouse) -> list[Record]:
    """Returns the newest results of the project's models on the same test rows, with all features."""
    values = ", ".join(
        f"arg_max(value, started_at) filter (where metric = '{metric}') as {metric}"
        for names in SHOWN.values()
        for metric in names
    )
    headlines = ", ".join(f"'{metric.name}'" for metric in HEADLINES.values())
    with published(warehouse) as connection:
        return rows_of(
            connection,
            f"""
            select task, model, 'this project' as library, {values},
                arg_max(ci_low, started_at) filter (where metric in ({headlines})) as low,
                arg_max(ci_high, started_at) filter (where metric in ({headlines})) as high,
                arg_max(fit_seconds, started_at) as fit_seconds,
                arg_max(results[1], started_at) as result
            from results.figures
            where protocol = $protocol and budget = $budget and feature_set = 'all' and test_rows = $test_rows
            group by task, model
            """,
            **{name: case.facts[name] for name in ("protocol", "budget", "test_rows")},
        )


def resampled_of(model: str, own: Iterable[Record], warehouse: Warehouse) -> dict[Task, Resampled]:
    """Returns the metrics of one of the project's models, by task. Args: own: the result of `ours`."""
    rows = [row for row in own if row["model"] == model]
    kept = read_replicates({row["result"] for row in rows}, warehouse)
    return {
        row["task"]: {metric: (row[metric], kept[row["result"], row["task"], metric]) for metric in SHOWN[row["task"]]}
        for row in rows
    }


def table(task: Task, rows: Iterable[Record]) -> list[str]:
    """Returns the figures of one task as lines of Markdown, the best first."""
    best = HEADLINES[task]
    sign = -1 if best.higher_is_better else 1
    labels = [METRICS[name].label for name in SHOWN[task]]
    shown = sorted((row for row in rows if row["task"] == task), key=lambda row: sign * row[best.name])
    lines = [
        f"| {task} | library | {labels[0]} | 95 % interval | {''.join(f'{label} | ' for label in labels[1:])}fit s |",
        f"|---|---|--:|---|{'--:|' * len(labels)}",
    ]
    for row in shown:
        first, *others = (_number(row[name], METRICS[name].digits) for name in SHOWN[task])
        interval = " to ".join(_number(row[end], best.digits) for end in ("low", "high"))
        lines.append(
            f"| {row['model']} | {row['library']} | {first} | {interval} | "
            f"{''.join(f'{other} | ' for other in others)}{row['fit_seconds']:.1f} |"
        )
    return lines


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def tables(found: Iterable[Record]) -> list[str]:
    """Returns the figures of both tasks as lines of Markdown."""
    found = list(found)
    parts = [table(task, found) for task in SHOWN if any(row["task"] == task for row in found)]
    return [line for part in [*parts, *leads_tables(found)] for line in [*part, ""]]


def leads_tables(found: Iterable[Record]) -> Iterator[list[str]]:
    """Yields, for each model of this project that peers were compared with, its differences as lines of Markdown."""
    compared = [row for row in found if row.get("leads")]
    metrics = [metric for of_task in SHOWN.values() for metric in of_task]
    for model in dict.fromkeys(row["beside"] for row in compared):
        leads: dict[str, dict[str, list[float]]] = {}  # by peer and metric
        for row in compared:
            if row["beside"] == model:
                leads.setdefault(row["model"], {}).update(row["leads"])
        yield [
            f"| {model} less | {' | '.join(METRICS[metric].label for metric in metrics)} |",
            f"|---|{'---|' * len(metrics)}",
            *(
                f"| {peer} | {' | '.join(_lead(of_peer.get(metric), METRICS[metric].digits) for metric in metrics)} |"
                for peer, of_peer in leads.items()
            ),
        ]


def _lead(lead: list[float] | None, digits: int) -> str:
    return "{:+.{n}f} ({:+.{n}f} to {:+.{n}f})".format(*lead, n=digits + 1) if lead else ""


def record(found: list[Record], own: list[Record], case: Case) -> None:
    """Stores the peers' figures, and writes a page of those on the same test rows with the project's own."""
    named = {" ".join(row[name] for name in ("protocol", "budget", "task", "model")): row for row in found}
    kept = records.merge(records.RESULTS / "peers.json", named)
    shown = {name: row for name, row in kept.items() if case.facts.items() <= row.items()}
    threads = ", ".join(map(str, sorted({row["threads"] for row in shown.values()})))
    lines = [
        f"{case.source}: test rows of protocol {case.protocol}, budget {case.budget}, by `python -m benchmarks.peers`.",
        *([GENERATED] if case.is_generated else []),
        "",
        f"Peers have ordinary settings and stop early on validation rows; threads of a fit: {threads}.",
        "This project's models have their stored results on the same rows.",
        "Its `ensemble` is fitted to the validation rows, too, out of fold.",
        "The last table has differences with 95 % intervals, paired: both models see the same resamples of the rows.",
        "`multitask`, `multitask_tuned` and `ensemble` learn both tasks: both tables have the seconds of the same fit.",
        "",
        *(f"- {origin}" for origin in records.origins(shown)),
        "",
        *tables([*shown.values(), *own]),
    ]
    (records.RESULTS / "peers.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def peers_of(text: str) -> list[str]:
    """Parses names of peers. Raises: argparse.ArgumentTypeError: one is unknown."""
    names = text.split(",")
    if unknown := {*names} - {*PEERS}:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(PEERS)}")
    return names


def options() -> argparse.Namespace:
    """Parses the command's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("warehouse", help="a warehouse with a finished run, or feature tables")
    add("--protocol", choices=PROTOCOLS, default="cold_start")
    add("--budget", choices=BUDGETS, default="full", help="limits the training rows, and chooses the project's results")
    add("--peers", type=peers_of, default=[*PEERS], help=f"of {', '.join(PEERS)}; by default all that are installed")
    add("--python", default=sys.executable, help="the Python that has the peers, by default this one")
    add("--beside", default="ensemble", help="the project's model whose differences from each peer are shown")
    add("--threads", type=int, default=1, help="of each fit; a cell of the project has one by default")
    add("--rounds", type=int, default=2000, help="the most rounds of boosting")
    add("--seconds", type=float, default=600.0, help="AutoGluon's time limit for each task")
    add("--record", action="store_true", help="store the figures in benchmarks/results/peers.json and peers.md")
    return parser.parse_args()


def main() -> None:
    """Fits the peers and prints both tables. Raises: SystemExit: the warehouse has no such rows, or a fit failed."""
    given = options()
    try:
        warehouse = Warehouse.to_read(given.warehouse)
        case = load(given.protocol, given.budget, warehouse)
    except UserError as error:
        raise SystemExit(str(error)) from error
    own = ours(case, warehouse)
    found = list(fits(case, given, resampled_of(given.beside, own, warehouse)))
    if given.record and found:
        record(found, own, case)
    if case.is_generated:
        print(GENERATED)
    print("\n".join(tables([*found, *own])).rstrip())


if __name__ == "__main__":
    main()
