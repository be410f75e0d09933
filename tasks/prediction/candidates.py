"""Candidates for champion: stored models that can predict new tracks, and the tables each was made from."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from tasks.errors import UnknownNameError, UserError, missing_library
from tasks.features.registry import BuiltTable, read_registry
from tasks.features.tables import every_table, genres_of, table_version
from tasks.models.registry import MODELS, base_of, spec_of
from tasks.models.spec import ModelSpec
from tasks.plugins import loaded_files
from tasks.specs import BUDGETS, FEATURE_SETS, HEADLINES, METRICS, PROBES, PROTOCOLS, Cell, protocol_named
from tasks.storage.damage import read_rows, whole_cells
from tasks.storage.warehouse import LAST_OF_CELL, Warehouse
from tasks.training import runs
from tasks.training.catalogues import Catalogues
from tasks.training.cell_files import REPLICATES, RESULT
from tasks.training.jobs import Job

SPLITS = ("grouped", "study")  # kinds of split of the honest protocols, most honest about new songs first
OF_PLUGIN = "is of a plug-in that is not loaded"
PREPARED_BY = ("features.tracks_clean", "features.tracks_std")
PREPARED_FOR_SETS = ("features.tracks_pca", "features.set_")  # with these beginnings: for some feature sets


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A successful cell with a stored model, as a predictor of one task."""

    task: str  # genre or popularity
    cell: Cell  # its task may be multitask
    run_id: str
    started_at: datetime  # start of the run
    source: str
    catalogue: str
    is_generated: bool
    staging_version: str
    feature_version: str
    cell_key: str
    result: str
    model_path: str
    model_sha256: str
    predict_seconds: float  # for validation and test rows, all tasks of the model
    metric: str
    value: float  # of `metric`, on the validation rows
    ci_low: float | None
    ci_high: float | None
    folds: tuple[str, ...] = ()  # the results of its cross-validation in the same run, by fold, if that is complete
    fold_seed: int | None = None  # by which the tracks were divided into them; None: the study's

    @property
    def spec(self) -> ModelSpec:
        """The model that the cell trained."""
        return spec_of(self.cell)

    @property
    def sign(self) -> float:
        """1, or -1 if a lower value of the metric is better."""
        return 1.0 if METRICS[self.metric].higher_is_better else -1.0

    @property
    def score(self) -> float:
        """The metric's value, negated if lower is better."""
        return self.sign * self.value

    @property
    def tier(self) -> tuple[int, int]:
        """Rank by budget (full is best), then by the protocol's split; compared before the score, higher is better."""
        return -list(BUDGETS).index(self.cell.budget), -SPLITS.index(PROTOCOLS[self.cell.protocol].split)

    @property
    def division(self) -> tuple[int, int | None]:
        """How its cross-validation divided the tracks: number and seed of the folds."""
        return len(self.folds), self.fold_seed

    @property
    def unknown(self) -> str | None:
        """What of it is not known, and why. None if it can be used."""
        return unknown(self.cell.task, self.cell.model, self.cell.feature_set, self.cell.protocol)

    @property
    def title(self) -> str:
        """The candidate's name for messages."""
        return f"{self.cell.model} on {self.cell.feature_set} ({self.cell.protocol}, run {self.run_id})"


def candidates(warehouse: Warehouse, run_id: str | None = None) -> list[Candidate]:
    """Returns the candidates of one finished run, or of all finished runs."""
    files = warehouse.files("runs", "finished")
    if run_id is not None:
        files = [file for file in files if file.stem == run_id]
    catalogues = Catalogues.of(warehouse)
    found: list[Candidate] = []
    for file in files:
        started_file = warehouse.here(warehouse.table("runs", "started", file.stem))
        started = read_rows([started_file], runs.STARTED, warehouse).to_pylist()
        finished = read_rows([file], runs.FINISHED, warehouse).to_pylist()
        if started and finished:
            cells = finished[0]["cells"]
            whole = set(whole_cells(sorted({cell["result"] for cell in cells if cell["result"]}), warehouse))
            by_cell: dict[tuple[object, ...], dict[int, str]] = {}
            for cell in cells:
                if cell["fold"] and cell["result"] in whole:
                    by_cell.setdefault((cell["folds"], *_same(cell)), {})[cell["fold"]] = cell["result"]
            complete = {key[1:]: folds for key, folds in by_cell.items() if len(folds) == key[0]}
            seed = next((cell["fold_seed"] for cell in cells if cell["fold"]), None)  # a run has one
            of_run = started[0] | {"catalogue": catalogues.of_record(started[0]), "fold_seed": seed}
            for cell in cells:
                if cell["result"] in whole:
                    folds = complete.get(_same(cell), {})
                    found += _candidates(of_run, cell, tuple(folds[fold] for fold in sorted(folds)), warehouse)
    return found


def _same(cell: dict[str, Any]) -> tuple[object, ...]:
    """Returns what a stored cell has in common with the cells of its cross-validation."""
    return tuple(cell[name] for name in ("protocol", "task", "model", "feature_set", "seed", "budget", "params"))


def _candidates(
    started: dict[str, Any], row: dict[str, Any], folds: tuple[str, ...], warehouse: Warehouse
) -> Iterable[Candidate]:
    """Yields a candidate for each task that a cell predicts; none if the cell does not qualify."""
    folder = warehouse.cell(row["result"])
    if (
        row["status"] != "ok"
        or row["train_rows"] is not None
        or row["fold"] is not None
        or not is_honest(row["protocol"])
        or unknown(row["task"], row["model"], row["feature_set"], row["protocol"])
        or FEATURE_SETS[row["feature_set"]].leaks
    ):
        return
    results = read_rows([warehouse.here(folder / LAST_OF_CELL)], RESULT, warehouse).to_pylist()
    if not results or not results[0]["model_path"]:
        return
    [result] = results
    scores = {(m["task"], m["metric"]): m for m in result["metrics"] if m["split"] == "val" and m["slice"] == "all"}
    for task, metric in HEADLINES.items():
        found = scores.get((task, metric.name))
        has_probabilities = task != "genre" or (task, "log_loss") in scores
        if found and has_probabilities and found["value"] is not None:
            yield Candidate(
                task=task,
                cell=Cell(**{name: row[name] for name in Cell.__dataclass_fields__}),
                run_id=started["run_id"],
                **{name: started[name] for name in ("started_at", "source", "catalogue", "is_generated")},
                **{name: row[name] for name in ("staging_version", "feature_version", "cell_key", "result")},
                **{name: result[name] for name in ("model_path", "model_sha256", "predict_seconds")},
                **{name: found[name] for name in ("metric", "value", "ci_low", "ci_high")},
                folds=folds,
                fold_seed=started["fold_seed"] if folds else None,
            )


def is_honest(protocol: str) -> bool:
    """Whether models of a protocol can predict new songs. `published` fills by genre, which those do not have."""
    return protocol in PROTOCOLS and PROTOCOLS[protocol].is_honest


def honest_protocols() -> list[str]:
    """Returns the protocols whose models can predict new songs, the most honest about them first."""
    return sorted(filter(is_honest, PROTOCOLS), key=lambda name: SPLITS.index(PROTOCOLS[name].split))


def unknown(task: str, model: str, feature_set: str, protocol: str) -> str | None:
    """Says which name of a stored cell is not registered; None if all are.

    Either a library is not installed, or no plug-in that is loaded has the name.
    """
    base = base_of(model)
    if f"{task}/{base}" not in MODELS and (needs := missing_library(base)):
        return f"model '{base}' {needs}"
    found = (
        ("model", base, f"{task}/{base}" in MODELS),
        ("feature set", feature_set, feature_set in FEATURE_SETS),
        ("protocol", protocol, protocol in PROTOCOLS or protocol in PROBES),
    )
    return next((f"{kind} '{name}' {OF_PLUGIN}" for kind, name, known in found if not known), None)


def validation_replicates(candidate: Candidate, warehouse: Warehouse) -> np.ndarray:
    """Returns bootstrap replicates of the candidate's score on its validation rows, (n_replicates,)."""
    file = warehouse.here(warehouse.cell(candidate.result) / "replicates.parquet")
    values = [
        row["replicates"]
        for row in read_rows([file], REPLICATES, warehouse).to_pylist()
        if (row["task"], row["split"], row["metric"]) == (candidate.task, "val", candidate.metric)
    ]
    if not values:
        raise UserError(
            f"{candidate.title}: its replicates are gone or damaged. Train it again: the same command does."
        )
    return candidate.sign * np.array(values[0])


def out_of_fold(candidate: Candidate, warehouse: Warehouse) -> tuple[float, np.ndarray] | None:
    """Returns the candidate's metric over all tracks, each tested once, and replicates of its score, (n_replicates,).

    None if it has no complete cross-validation, or a fold's results are gone.
    """
    folders = [warehouse.here(warehouse.cell(result)) for result in candidate.folds]
    results = read_rows([folder / LAST_OF_CELL for folder in folders], RESULT, warehouse).to_pylist()
    wanted = (candidate.task, "test", candidate.metric)
    replicates = [
        row["replicates"]
        for row in read_rows([folder / "replicates.parquet" for folder in folders], REPLICATES, warehouse).to_pylist()
        if (row["task"], row["split"], row["metric"]) == wanted
    ]
    figures = [
        (figure["value"], figure["n"])
        for row in results
        for figure in row["metrics"]
        if (figure["task"], figure["split"], figure["metric"]) == wanted and figure["slice"] == "all"
    ]
    if not folders or not len(figures) == len(replicates) == len(folders):
        return None
    values, counts = (list(column) for column in zip(*figures, strict=True))
    from tasks.evaluation.cross_validation import pooled_replicates, pooled_value  # imports scikit-learn

    value = pooled_value(candidate.metric, values, counts)
    return value, candidate.sign * pooled_replicates(candidate.metric, value, np.array(replicates), counts)


def validation_rows(candidate: Candidate, warehouse: Warehouse) -> np.ndarray:
    """Returns the candidate's validation rows, (n_rows, 2): track id and true value, sorted by id."""
    predictions = pl.scan_parquet(warehouse.here(warehouse.cell(candidate.result) / "predictions.parquet"))
    rows = predictions.filter(task=candidate.task, split="val").sort("track_id")
    return rows.select("track_id", "y_true").collect().to_numpy()


def lineage(feature_version: str, warehouse: Warehouse) -> dict[str, BuiltTable]:
    """Returns, by name, every table that a feature table is made from, and the feature table itself.

    Raises: UserError: the registry does not know them, or the current SQL is not the one that prepared them.
    """
    registered = {row.version: row for row in read_registry(warehouse)}
    root = registered.get(feature_version)
    found: dict[str, BuiltTable] = {}
    waiting = [feature_version]
    while waiting:
        row = registered.get(waiting.pop())
        if row is not None and row.table_name not in found:
            found[row.table_name] = row
            # Statistics kept from a base snapshot refer to the base's tables; an appended snapshot has its own.
            waiting += (row.upstream or []) if root and row.snapshot == root.snapshot else []
    today = {table.name: table for table in every_table()}
    for name in dict.fromkeys((*PREPARED_BY, *(name for name in found if name.startswith(PREPARED_FOR_SETS)))):
        row = found.get(name)
        if (
            row is None
            or row.protocol is None
            or name not in today
            or row.version
            != table_version(
                today[name], protocol_named(row.protocol), {"protocol": row.protocol}, list(row.upstream or ())
            )
        ):
            raise UserError(
                f"Feature version {feature_version} was not prepared by the SQL and the DuckDB of today ({name}), so "
                "its model would see other numbers than in training. Train again: python -m flows.benchmark "
                "--protocol cold_start"
            )
    return found


def job_of(candidate: Candidate, tables: dict[str, BuiltTable], warehouse: Warehouse) -> Job:
    """Returns the training job of a candidate's cell. Args: tables: the candidate's lineage."""
    [feature_table] = [row for row in tables.values() if row.version == candidate.feature_version]
    return Job(
        cell=candidate.cell,
        key=candidate.cell_key,
        result=candidate.result,
        feature_version=candidate.feature_version,
        staging_version=candidate.staging_version,
        table=feature_table.path,
        split_table=tables["features.split_assignment"].path,
        genres=genres_of(tables["features.genre_mapping"], warehouse),
        warehouse=warehouse.address,
        threads=1,
        plugins=loaded_files(),
    )


def predictors_named(model: str, tasks: Iterable[str], warehouse: Warehouse) -> dict[str, Candidate]:
    """Returns, by task, the current catalogue's stored model of that name: of the best tier, then the newest, the best.

    Raises: UserError: the model is unknown, is never kept as a file, or is not stored.
    """
    known = {spec.model for spec in MODELS.values() if spec.keeps_model}
    if base_of(model) not in known:
        raise UnknownNameError("model", model, known)
    current = Catalogues.of(warehouse).current
    stored = [one for one in candidates(warehouse) if one.cell.model == model and one.catalogue == current]
    chosen = {
        task: max(
            (one for one in stored if one.task == task),
            key=lambda one: (one.tier, one.started_at, -one.cell.seed, one.score),
            default=None,
        )
        for task in tasks
    }
    found = {task: one for task, one in chosen.items() if one is not None}
    if not found:
        source = shlex.quote(current or "YOUR_TRACKS.csv")
        train = f"python -m flows.benchmark --source {source} --protocol cold_start --models {model}"
        raise UserError(
            f"No model '{model}' that could predict is stored in {warehouse.address} for the current catalogue. "
            + ("It gives no probabilities: choose another." if model == "svm" else f"Train it there: {train}")
        )
    return found
