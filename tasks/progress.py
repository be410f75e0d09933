"""What a person sees while cells train: how many are done, which are running, how long it has taken."""

from __future__ import annotations

import threading
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tasks.specs import Cell


class CellProgress:
    """A live line on standard error, if that is a terminal; silent otherwise."""

    def __init__(self, total: int) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("cells"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar = self._progress.add_task("", total=total)
        self._running: list[str] = []
        self._lock = threading.Lock()

    def __enter__(self) -> CellProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def started(self, cell: Cell) -> None:
        """A cell's process has started."""
        with self._lock:
            self._running.append(cell.title)
            self._show()

    def ended(self, cell: Cell) -> None:
        """A cell's process has ended, however."""
        with self._lock:
            self._running.remove(cell.title)
            self._show()

    def done(self) -> None:
        """One more cell is accounted for."""
        self._progress.advance(self._bar)

    def _show(self) -> None:
        self._progress.update(self._bar, description="; ".join(self._running))
