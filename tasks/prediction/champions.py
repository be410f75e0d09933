"""Champions: for each task the model that predicts new tracks, chosen by a declared rule.

The rule:

- Candidates are a run's cells with a stored model of an honest protocol (for genre: with probabilities). Budget `full`
  comes before `brief` before `smoke`, and `cold_start` before `label_free`: a grouped split before the study's. Of each
  protocol, model and feature set the lowest seed counts.
- The best candidate has the best accuracy or RMSE: over all tracks, each tested once, if all of them were
  cross-validated in the run, else on validation rows. A candidate within one standard error of it counts as equal; the
  error is that of their difference, paired over the same bootstrap resamples (Breiman et al. 1984, Classification and
  Regression Trees, section 3.4.3).
- Among equals, those are considered that predict about as fast as the fastest: in at most twice its seconds plus 50 ms,
  as seconds are measured only once. The best of them challenges the current champion.
- The challenger takes over if the current champion can no longer predict, or is of a lower budget or protocol in the
  order above. It never takes over from a usable one of a higher budget or protocol. Between equals it takes over only
  if the 95 % interval of the paired difference is above 0, or if they were judged on different validation rows. The
  difference is that over all tracks if both were cross-validated on the same folds, else that on validation rows.
- A task whose target is the same in all training rows or in all validation rows gets no champion.
- Each catalogue has its own champions. Those of the current catalogue predict (tasks/training/catalogues.py).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.errors import NoModelError, PluginError, UserError
from tasks.features.targets import constant_targets, obstacle
from tasks.plugins import load_plugins
from tasks.prediction.calibrate import Calibration, calibrate_in_child
from tasks.prediction.candidates import (
    OF_PLUGIN,
    Candidate,
    candidates,
    lineage,
    out_of_fold,
    predictors_named,
    validation_replicates,
    validation_rows,
)
from tasks.specs import HEADLINES, Cell
from tasks.storage.damage import read_rows, whole_cells
from tasks.storage.warehouse import Warehouse
from tasks.training.catalogues import Catalogues

TRAIN = (
    "Train one: python -m flows.benchmark --source YOUR_TRACKS.csv --protocol cold_start "
    "(leave --source out for generated data)"
)
NO_MODEL = f"No model has been trained that can predict new tracks. {TRAIN}"
ABOUT_AS_FAST, ABOUT_AS_FAST_SECONDS = 2.0, 0.050
NUMBER = pa.float64()
OF_CELL = ("model", "feature_set", "protocol", "budget", "seed", "settings")
CHAMPIONS = pa.schema(
    [
        *(
            pa.field(name, pa.string(), nullable=False)
            for name in (
                *("task", "trained_task", "model", "feature_set", "protocol", "budget", "run_id", "cell_key", "result"),
                *("model_path", "model_sha256", "feature_version", "staging_version", "source", "metric"),
            )
        ),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("is_generated", pa.bool_(), nullable=False),
        pa.field("started_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("predict_seconds", NUMBER, nullable=False),
        pa.field("value", NUMBER, nullable=False),
        pa.field("ci_low", NUMBER),
        pa.field("ci_high", NUMBER),
        pa.field("chosen_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("replaced", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("genres", pa.list_(pa.string()), nullable=False),
        pa.field("catalogue", pa.string()),  # this and the next are NULL in records of earlier versions
        pa.field("folds", pa.list_(pa.string())),
        pa.field("fold_seed", pa.int64()),  # NULL: the study's
        pa.field("settings", pa.string()),  # JSON; NULL: the registered ones
        pa.field("n_validation", pa.int64(), nullable=False),
        pa.field("n_test", pa.int64(), nullable=False),
        *(
            pa.field(name, NUMBER)
            for name in (
                *("temperature", "log_loss", "log_loss_uncalibrated", "ece", "ece_uncalibrated"),
                *("half_width", "coverage_wanted", "coverage", "coverage_low", "coverage_high"),
            )
        ),
        pa.field(
            "familiarity",
            pa.list_(pa.struct({"feature_name": pa.string(), "statistic": pa.string(), "value": NUMBER})),
            nullable=False,
        ),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """The model that predicts a task, with its calibration."""

    candidate: Candidate
    calibration: Calibration
    chosen_at: datetime
    replaced: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a run's best candidate becomes champion, and the reason in one sentence."""

    candidate: Candidate
    takes_over: bool
    reason: str
    replaced: str | None


def best_of(
    contenders: Sequence[Candidate],
    replicates: Callable[[Candidate], np.ndarray],
    score: Callable[[Candidate], float] = lambda one: one.score,
) -> Candidate:
    """Returns the candidate that the rule chooses; all are of one task, one tier and the same validation rows.

    Args: replicates: of the score of a candidate. score: higher is better; by default that on validation rows.
    """
    best = max(contenders, key=lambda one: (score(one), -one.predict_seconds))

    def is_equal(one: Candidate) -> bool:
        if one is best:
            return True
        error = float(np.nanstd(replicates(best) - replicates(one), ddof=1))
        return score(best) - score(one) <= error

    equal = [one for one in contenders if is_equal(one)]
    longest = ABOUT_AS_FAST * min(one.predict_seconds for one in equal) + ABOUT_AS_FAST_SECONDS
    fast = [one for one in equal if one.predict_seconds <= longest]
    return min(fast, key=lambda one: (-score(one), one.predict_seconds, one.cell.model, one.cell.feature_set))


def best_in(contenders: Sequence[Candidate], warehouse: Warehouse) -> Candidate:
    """Returns the candidate that the rule chooses, by their cross-validations if all have one of the same folds."""
    found = {one.result: out_of_fold(one, warehouse) for one in contenders}
    if any(figures is None for figures in found.values()) or len({one.division for one in contenders}) > 1:
        return best_of(contenders, lambda one: validation_replicates(one, warehouse))
    scores = {result: figures for result, figures in found.items() if figures}
    return best_of(contenders, lambda one: scores[one.result][1], lambda one: one.sign * scores[one.result][0])


def with_folds(standing: Candidate | None, of_run: Sequence[Candidate]) -> Candidate | None:
    """Returns the current champion, with the folds that a run cross-validated it on, if that run has it, too."""
    same = [one for one in of_run if standing and one.folds and one.cell_key == standing.cell_key]
    return replace(standing, folds=same[0].folds, fold_seed=same[0].fold_seed) if standing and same else standing


def decide(challenger: Candidate, standing: Candidate | None, obstacle: str | None, warehouse: Warehouse) -> Decision:
    """Decides whether the challenger takes over.

    Args: standing: the current champion, if there is one. obstacle: why the current champion can no longer predict, if
        it cannot.
    """
    if standing is None:
        return Decision(challenger, True, f"the first champion for {challenger.task}", None)
    takes_over, reason = _verdict(challenger, standing, obstacle, warehouse)
    return Decision(challenger, takes_over, reason, standing.title if takes_over else None)


def _verdict(
    challenger: Candidate, standing: Candidate, obstacle: str | None, warehouse: Warehouse
) -> tuple[bool, str]:
    if challenger.result == standing.result:
        return False, "it is the champion already"
    if obstacle:
        return True, f"the previous champion can no longer be used: {obstacle}"
    if challenger.tier != standing.tier:
        new, old = (f"{one.cell.protocol}, budget {one.cell.budget}" for one in (challenger, standing))
        return challenger.tier > standing.tier, f"{new}, against {old} of the previous champion"
    if not np.array_equal(validation_rows(challenger, warehouse), validation_rows(standing, warehouse)):
        return True, "the data changed: the previous champion was judged on other validation rows"
    of_folds = [out_of_fold(one, warehouse) for one in (challenger, standing)]
    if challenger.division == standing.division and all(of_folds):
        (value, ours), (other, theirs) = (found for found in of_folds if found)
        figures = f"out-of-fold {challenger.metric} {value:.4f} against {other:.4f}"
    else:
        ours, theirs = (validation_replicates(one, warehouse) for one in (challenger, standing))
        figures = f"validation {challenger.metric} {challenger.value:.4f} against {standing.value:.4f}"
    from tasks.evaluation.bootstrap import percentile_interval  # imports scikit-learn

    low, high = percentile_interval(ours - theirs)
    if low is None or high is None:
        return False, f"{figures}, not comparable"
    beyond = "beyond" if low > 0 else "not beyond"
    return low > 0, f"{figures}, better by {low:.4f} to {high:.4f} (95 % interval): {beyond} the uncertainty"


def choose(run_id: str, warehouse: Warehouse, threads: int) -> list[str]:
    """Lets a finished run's best candidates challenge the champions of its catalogue.

    Returns: a line of text per task for the user.
    """
    with warehouse.lock_everywhere("champions"):
        standing = {(one.candidate.task, one.candidate.catalogue): one.candidate for one in history(warehouse)}
        decisions, refused = [], []
        of_run = candidates(warehouse, run_id)
        for task in HEADLINES:
            contenders = _contenders([one for one in of_run if one.task == task])
            if contenders and (reason := _nothing_to_choose_by(contenders[0], warehouse)):
                refused.append(f"{reason[0].upper()}{reason[1:]}.")
            elif contenders:
                chosen = best_in(contenders, warehouse)
                before = with_folds(standing.get((task, chosen.catalogue)), of_run)
                obstacle = _obstacle(before, warehouse) if before else None
                decisions.append(decide(chosen, before, obstacle, warehouse))
        winners = [decision for decision in decisions if decision.takes_over]
        calibrated = calibrate_in_child([one.candidate for one in winners], warehouse, threads) if winners else []
        now = datetime.now(UTC)
        new = [
            Champion(candidate=one.candidate, calibration=what, chosen_at=now, replaced=one.replaced, reason=one.reason)
            for one, what in zip(winners, calibrated, strict=True)
        ]
        if new:
            warehouse.write_rows(
                warehouse.table("champions", "decisions", run_id), [_row(one) for one in new], CHAMPIONS
            )
    return [
        f"Champion for {one.candidate.task}: {one.candidate.title}: {one.reason}."
        if one.takes_over
        else f"Champion for {one.candidate.task} stays; this run's best is {one.candidate.cell.model}: {one.reason}."
        for one in decisions
    ] + refused


def history(warehouse: Warehouse) -> list[Champion]:
    """Returns all champions so far, of all catalogues, oldest first."""
    catalogues = Catalogues.of(warehouse)
    rows = read_rows(warehouse.files("champions", "decisions"), CHAMPIONS, warehouse).to_pylist()
    oldest_first = sorted(rows, key=lambda row: row["chosen_at"])
    return [_champion(row | {"catalogue": catalogues.of_record(row)}) for row in oldest_first]


def current(warehouse: Warehouse) -> list[Champion]:
    """Returns the current champions: those of the current catalogue, one per task.

    If the records of runs are lost, they are those of the newest champion's catalogue.
    """
    oldest_first = history(warehouse)
    catalogue = Catalogues.of(warehouse).current or (oldest_first[-1].candidate.catalogue if oldest_first else None)
    return list({one.candidate.task: one for one in oldest_first if one.candidate.catalogue == catalogue}.values())


def predictors(warehouse: Warehouse, model: str | None, threads: int) -> dict[str, Champion]:
    """Returns the champion of each task.

    Args: model: name of a model that replaces the champion of each task it predicts; it is calibrated now.

    Raises: NoModelError: the current catalogue has no champion; PluginError: a champion is of a plug-in that is not
        loaded, or of a library that is not installed; UserError: `model` is unknown or not stored.
    """
    load_plugins()
    chosen = {one.candidate.task: one for one in current(warehouse)}
    if model is not None:
        named = predictors_named(model, HEADLINES, warehouse)
        calibrated = calibrate_in_child(list(named.values()), warehouse, threads)
        for one, what in zip(named.values(), calibrated, strict=True):
            chosen[one.task] = Champion(
                candidate=one, calibration=what, chosen_at=datetime.now(UTC), replaced=None, reason="asked for by name"
            )
    if not chosen:
        if source := Catalogues.of(warehouse).current:
            raise NoModelError(
                f"{warehouse.address}: Of its current catalogue, {source}, no model has been trained that can predict "
                f"new tracks. Train one: python -m flows.benchmark --source {shlex.quote(source)} --protocol cold_start"
            )
        raise NoModelError(f"{warehouse.address}: {NO_MODEL}")
    for task, champion in chosen.items():
        if reason := champion.candidate.unknown:
            plugin = " Name its file with --plugins or $MUSIC_PLUGINS, or install the plug-in."
            raise PluginError(
                f"The champion for {task} cannot be used: its {reason}.{plugin if reason.endswith(OF_PLUGIN) else ''}"
            )
    return chosen


def best_like(champion: Champion, accepts: Callable[[Candidate], bool], warehouse: Warehouse) -> Candidate | None:
    """Returns the best usable model of the champion's task and catalogue that `accepts` allows.

    One of the same tracks comes first.
    """
    stored = [
        one
        for one in sorted(candidates(warehouse), key=lambda one: one.started_at, reverse=True)
        if one.task == champion.candidate.task
        and one.catalogue == champion.candidate.catalogue
        and accepts(one)
        and _obstacle(one, warehouse) is None
    ]
    same = [one for one in stored if one.staging_version == champion.candidate.staging_version]
    newest = [one for one in stored if one.staging_version == stored[0].staging_version]
    contenders = _contenders(same or newest)
    return best_in(contenders, warehouse) if contenders else None


def _contenders(of_task: list[Candidate]) -> list[Candidate]:
    """Returns the candidates of the best tier, for each protocol, model and feature set the lowest seed."""
    tier = max((one.tier for one in of_task), default=None)
    lowest: dict[tuple[str, str, str], Candidate] = {}
    for one in sorted((one for one in of_task if one.tier == tier), key=lambda one: one.cell.seed):
        lowest.setdefault((one.cell.protocol, one.cell.model, one.cell.feature_set), one)
    return list(lowest.values())


def _obstacle(champion: Candidate, warehouse: Warehouse) -> str | None:
    """Returns why a champion can no longer predict; None if it can."""
    if champion.unknown:
        return champion.unknown
    if not warehouse.here(champion.model_path).is_file():
        return "its model file is gone"
    if not whole_cells([champion.result], warehouse, champion.result):
        return "its cell is damaged"
    try:
        tables = lineage(champion.feature_version, warehouse)
    except UserError:
        return "the SQL that prepares tracks, or the version of DuckDB, has changed"
    return None if all(warehouse.here(table.path).exists() for table in tables.values()) else "its tables are gone"


def _nothing_to_choose_by(candidate: Candidate, warehouse: Warehouse) -> str | None:
    """Returns why the candidate's task gets no champion: its target does not vary; None if it does."""
    prepared = lineage(candidate.feature_version, warehouse)["features.tracks_std"]
    return obstacle(candidate.task, constant_targets(prepared, warehouse).get(candidate.task, {}))


def _row(champion: Champion) -> dict[str, object]:
    one = champion.candidate
    return {
        **{name: getattr(one, name) for name in CHAMPIONS.names if name in Candidate.__dataclass_fields__},
        **{name: getattr(one.cell, name) for name in OF_CELL},
        **asdict(champion.calibration),
        "trained_task": one.cell.task,
        "chosen_at": champion.chosen_at,
        "replaced": champion.replaced,
        "reason": champion.reason,
    }


def _champion(row: dict[str, Any]) -> Champion:
    cell = {name: row[name] for name in OF_CELL}
    fields = set(Candidate.__dataclass_fields__) - {"cell"}
    return Champion(
        candidate=Candidate(
            cell=Cell(task=row["trained_task"], **cell),
            **{name: row[name] for name in fields} | {"folds": tuple(row["folds"] or ())},
        ),
        calibration=Calibration(**{name: row[name] for name in Calibration.__dataclass_fields__}),
        chosen_at=row["chosen_at"],
        replaced=row["replaced"],
        reason=row["reason"],
    )
