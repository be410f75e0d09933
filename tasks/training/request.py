"""What a benchmark asks for: its cells, before the tracks are known and for the tracks that were read."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.features.registry import BuiltTable
from tasks.ingest.snapshots import Snapshot
from tasks.models.spec import ModelSpec
from tasks.specs import BUDGETS, STUDY_SEED, Budget, Cell, protocols_of
from tasks.storage.warehouse import Warehouse
from tasks.training.grid import plan_cells
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
    ) -> Request:
        """Returns the request of a benchmark's parameters.

        Args: warehouse: has the saved settings that `models` names.

        Raises: UserError: a name is not known, or saved settings cannot be used.
        """
        return cls(
            protocols=protocols_of(protocol),
            budget=budget,
            models=models or [],
            feature_sets=feature_sets or [],
            seeds=seeds or [STUDY_SEED],
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
        return budget, possible(self._grid(made, budget.name), snapshot)

    def _grid(self, protocols: list[str], budget: str) -> list[Cell]:
        return plan_cells(protocols, budget, self.models, self.feature_sets, self.seeds, self.saved)
