"""What a benchmark asks for: its cells, before the tracks are known and for the tracks that were read."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.errors import UserError
from tasks.features.registry import BuiltTable
from tasks.ingest.snapshots import Snapshot
from tasks.models.spec import ModelSpec
from tasks.specs import BUDGETS, STUDY_SEED, Budget, Cell, Folds, protocol_named, protocols_of
from tasks.storage.warehouse import Warehouse
from tasks.training.grid import plan_cells, with_folds
from tasks.training.needs import possible, required_columns
from tasks.training.settings import saved_models


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The cells that a benchmark asks for."""

    protocols: list[str]
    budget: str | None  # None: smoke for generated tracks, full for others
    models: list[str]  # or groups of them; empty: those that a protocol trains by default
    feature_sets: list[str]  # empty: all
    seeds: list[int]
    folds: Folds | None  # of a cross-validation of each honest protocol, beside its one split; None: there is none
    saved: list[ModelSpec]  # models with saved settings

    @classmethod
    def of(
        cls,
        protocol: str,
        budget: str | None,
        models: list[str] | None,
        feature_sets: list[str] | None,
        seeds: list[int] | None,
        warehouse: Warehouse,
        folds: int | None = None,
        fold_seed: int | None = None,
    ) -> Request:
        """Returns the request of a benchmark's parameters.

        Args: warehouse: has the saved settings that `models` names. folds: of a cross-validation. fold_seed: by which
            the tracks are divided into them, by default the study's.

        Raises: UserError: a name is not known, no protocol has folds, a seed has none, or saved settings cannot be
            used.
        """
        if fold_seed is not None and not folds:
            raise UserError("--fold-seed needs --folds, the number of folds that it divides the tracks into.")
        if folds and not any(protocol_named(name).is_honest for name in protocols_of(protocol)):
            raise UserError(f"--folds needs an honest protocol, such as cold_start; {protocol} has none.")
        return cls(
            protocols=protocols_of(protocol),
            budget=budget,
            models=models or [],
            feature_sets=feature_sets or [],
            seeds=seeds or [STUDY_SEED],
            folds=Folds(folds, STUDY_SEED if fold_seed is None else fold_seed) if folds else None,
            saved=saved_models(models or [], warehouse),
        )

    @property
    def required(self) -> list[str]:
        """The columns that the tracks must have. Raises: UserError: nothing can be trained."""
        return required_columns(self._grid(self.protocols, "smoke"))  # of any budget

    def cells(self, snapshot: Snapshot, tables: list[BuiltTable]) -> tuple[Budget, list[Cell]]:
        """Returns the budget, and the cells that are possible with the tracks that were read.

        Args: tables: the feature tables that were built; protocols that the tracks do not allow have none.

        Raises: InputError: no cell is possible.
        """
        budget = BUDGETS[self.budget or ("smoke" if snapshot.is_generated else "full")]
        built = {table.protocol for table in tables}
        made = [name for name in self.protocols if name in built]
        cells = possible(self._grid(made, budget.name), snapshot)
        return budget, with_folds(cells, self.folds) if self.folds else cells

    def _grid(self, protocols: list[str], budget: str) -> list[Cell]:
        return plan_cells(protocols, budget, self.models, self.feature_sets, self.seeds, self.saved)
