"""Plans the cells of a run: the grid of protocols, models, feature sets and seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from tasks.errors import UnknownNameError, UserError
from tasks.features.registry import BuiltTable
from tasks.models import xgboost
from tasks.models.registry import GROUPS, MODELS, spec_of
from tasks.models.spec import ModelSpec
from tasks.specs import FEATURE_SETS, STUDY_SEED, Cell, FeatureSet, Folds, Protocol, protocol_named
from tasks.training import large_tables
from tasks.training.jobs import table_name


def plan_cells(
    protocols: list[str],
    budget: str,
    models: list[str],
    feature_sets: list[str],
    seeds: list[int],
    saved: Sequence[ModelSpec] = (),
) -> list[Cell]:
    """Returns every cell of the grid, the most expensive first. Deterministic models are trained once, with seed 42.

    Args: models: names of models or groups of models; empty for those that a protocol trains by default. feature_sets:
        names of the feature sets; empty for all. saved: models with saved settings, which `models` may name, too.

    Raises: UnknownNameError: a name is not registered. UserError: a seed is out of range, or nothing is left to train.
    """
    if any(not 0 <= seed < 2**32 for seed in seeds):
        raise UserError("Seeds must be from 0 to 4294967295.")
    seeds = list(dict.fromkeys(seeds))
    specs = [*MODELS.values(), *saved]
    known = sorted({spec.model for spec in specs})
    for name in models:
        if name not in [*known, *GROUPS]:
            raise UnknownNameError("model", name, [*known, *GROUPS])
    chosen_sets = [FEATURE_SETS[name].name for name in feature_sets] or list(FEATURE_SETS)
    grid = [
        (spec.cost * _relative_cost(feature_set), protocol.name, spec, feature_set, seed)
        for protocol in map(protocol_named, protocols)
        for spec in specs
        if {spec.model, spec.group} & set(models or protocol.default_models)
        for feature_set in chosen_sets
        if _is_trained(spec, FEATURE_SETS[feature_set], protocol)
        for seed in (seeds if spec.is_stochastic else [STUDY_SEED])
    ]
    if not grid:
        asked = {"models": models, "feature sets": feature_sets, "protocols": protocols}
        named = "; ".join(f"{kind} {', '.join(names)}" for kind, names in asked.items() if names)
        raise UserError(f"Nothing to train: no model can be trained with this combination: {named}. See docs/words.md.")
    grid.sort(key=lambda item: -item[0])
    return [
        Cell(
            protocol=protocol,
            task=spec.task,
            model=spec.model,
            feature_set=feature_set,
            seed=seed,
            budget=budget,
            settings=None if spec.name in MODELS else json.dumps(dict(spec.parameters)),
        )
        for _, protocol, spec, feature_set, seed in grid
    ]


def with_folds(cells: list[Cell], folds: Folds) -> list[Cell]:
    """Returns the cells, each of an honest protocol followed by those of its cross-validation; not those of leaks."""
    seed = None if folds.seed == STUDY_SEED else folds.seed

    def of(cell: Cell) -> list[Cell]:
        is_honest = protocol_named(cell.protocol).is_honest and not FEATURE_SETS[cell.feature_set].leaks
        numbers = range(1, folds.number + 1) if is_honest else ()
        return [replace(cell, fold=number, folds=folds.number, fold_seed=seed) for number in numbers]

    return [one for cell in cells for one in (cell, *of(cell))]


def _is_trained(spec: ModelSpec, feature_set: FeatureSet, protocol: Protocol) -> bool:
    """Whether a model is trained on a feature set. Probes of leaks are for one model, with protocol label_free."""
    if protocol.is_probe:
        return spec.is_probe and feature_set.name == "all"
    if feature_set.leaks:
        return spec.is_probe and spec.task != feature_set.leaks and protocol.name == "label_free"
    return feature_set.name in spec.feature_sets or feature_set.table is None  # whose expressions any model may try


def distributed(cells: list[Cell], tables: list[BuiltTable], workers: int) -> list[Cell]:
    """Returns the same cells, where XGBoost's on large tables are fitted by `workers` Dask workers together."""
    n_rows = {(table.table_name, table.protocol): table.rows for table in tables}
    return [
        replace(cell, workers=workers)
        if spec_of(cell).build.__module__ == xgboost.__name__
        and n_rows[table_name(cell), cell.protocol] > large_tables.LARGE_ROWS
        else cell
        for cell in cells
    ]


def _relative_cost(feature_set: str) -> float:
    return 1.0 if feature_set in {"all", "pca"} else 0.7
