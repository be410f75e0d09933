"""The rule for which runs cleanup keeps. Imports no large library, so that commands can show its limits at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tasks.errors import UserError
from tasks.specs import GRACE_HOURS

if TYPE_CHECKING:
    from tasks.upkeep.inventory import StoredRun

KEEP_RUNS = 14
MOST = 36_500  # runs, or days


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rule for which runs are kept: the newest `keep_runs`, and those of the last `keep_days`; by default 14 runs.

    Completed and other runs are counted separately, so that a series of failures does not displace results. The newest
    completed run always stays. A run also stays if it has the newest result of a cell (results.newest) on the same
    tracks as a kept run, so that runs of a few models do not displace the results of other models.

    Raises: UserError: a number is out of range.
    """

    keep_runs: int | None = None
    keep_days: int | None = None
    grace_hours: float = GRACE_HOURS

    def __post_init__(self) -> None:
        for name in ("keep_runs", "keep_days"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= MOST:
                raise UserError(f"--{name.replace('_', '-')} must be from 1 to {MOST}, not {value}.")
        if not 0 <= self.grace_hours <= 24 * MOST:
            raise UserError(f"--grace-hours must be from 0 to {24 * MOST}, not {self.grace_hours:g}.")

    def kept(self, runs: Iterable[StoredRun], now: datetime) -> list[StoredRun]:
        """Returns the runs that stay, newest first; running ones always stay."""
        newest_first = sorted(runs, key=lambda run: (run.started_at, run.run_id), reverse=True)
        chosen = self._chosen(newest_first, now)
        tracks = {cell[0] for run in newest_first if run.run_id in chosen for cell in run.shown}
        seen: set[tuple[str, ...]] = set()
        kept = []
        for run in newest_first:
            if run.run_id in chosen or any(cell[0] in tracks for cell in run.shown - seen):
                kept.append(run)
            seen |= run.shown
        return kept

    def _chosen(self, newest_first: list[StoredRun], now: datetime) -> set[str]:
        count = self.keep_runs or (0 if self.keep_days else KEEP_RUNS)
        left = {True: max(1, count), False: count}  # by whether the run completed
        since = now - timedelta(days=self.keep_days) if self.keep_days else now
        chosen = set()
        for run in newest_first:
            is_completed = run.status == "completed"
            if run.status == "running" or run.started_at >= since or left[is_completed] > 0:
                chosen.add(run.run_id)
            left[is_completed] -= run.status != "running"
        return chosen
