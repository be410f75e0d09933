"""The rule for which runs cleanup keeps. Imports no large library, so that commands can show its limits at once."""

from __future__ import annotations

import itertools
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

    Completed and other runs are counted separately, so that a series of failures does not displace results, and so are
    runs of the current catalogue and trials. The newest completed run of the current catalogue always stays. So does
    the run that made it the current one, if another would be that without it. A run also stays if it has the newest
    result of a cell (results.newest) on the same tracks as a kept run, so that runs of a few models do not displace
    the results of other models.

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
        if (decides := _deciding(kept)) and not decides.is_current:
            kept = [run for run in newest_first if run in kept or run is _deciding(newest_first)]
        return kept

    def _chosen(self, newest_first: list[StoredRun], now: datetime) -> set[str]:
        count = self.keep_runs or (0 if self.keep_days else KEEP_RUNS)
        # By whether the run completed, and whether it is of the current catalogue.
        left = dict.fromkeys(itertools.product((True, False), repeat=2), count)
        left[True, True] = max(1, count)
        since = now - timedelta(days=self.keep_days) if self.keep_days else now
        chosen = set()
        for run in newest_first:
            kind = run.status == "completed", run.is_current
            if run.status == "running" or run.started_at >= since or left[kind] > 0:
                chosen.add(run.run_id)
            left[kind] -= run.status != "running"
        return chosen


def _deciding(newest_first: list[StoredRun]) -> StoredRun | None:
    """Returns the run that decides which catalogue is the current one, if there are no other runs than these."""
    from tasks.training.catalogues import deciding

    return deciding((run, run.has_asked) for run in reversed(newest_first) if run.status == "completed")
