"""Live progress on a terminal while cells train or rows are predicted: how much is done, and the time so far."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tasks.specs import Cell


@contextmanager
def counted_progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a progress line on standard error, if it is a terminal. Yields a function to call with the number done."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=total)
        yield lambda done: progress.update(bar, completed=done)


class CellProgress:
    """A progress line of cells on standard error; nothing is shown if that is not a terminal, or if not `is_wanted`."""

    def __init__(self, total: int, *, is_wanted: bool = True) -> None:
        console = Console(stderr=True)
        self.is_shown = is_wanted and console.is_terminal
        self._progress = Progress(
            TextColumn("cells"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not self.is_shown,
        )
        self._bar = self._progress.add_task("", total=total)
        self._total = total
        self._n_done = 0
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
        """Records that a cell's process has started."""
        with self._lock:
            self._running.append(cell.title)
            self._show()

    def ended(self, cell: Cell) -> None:
        """Records that a cell's process has ended, with or without success."""
        with self._lock:
            self._running.remove(cell.title)
            self._show()

    def done(self) -> None:
        """Counts one more cell as done."""
        self._n_done += 1
        self._progress.advance(self._bar)

    @property
    def share(self) -> float:
        """The share of cells that are done, 0 to 1."""
        return self._n_done / self._total if self._total else 1.0

    @property
    def line(self) -> str:
        """The number of cells done and the cells that are running, as text."""
        with self._lock:
            running = f"; training {'; '.join(self._running)}" if self._running else ""
        return f"{self._n_done} of {self._total} cells done{running}"

    def _show(self) -> None:
        self._progress.update(self._bar, description="; ".join(self._running))
