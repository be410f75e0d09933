"""Champions that answer requests: loaded once, exchanged while requests go on, and never used by two threads at once.

One thread predicts. Whatever waits while it does is predicted together in the next pass: a pass takes DuckDB tens of
milliseconds however few its rows are, and models use every core by themselves. Another thread looks every second
whether other champions stand, and loads those beside the ones in use.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.errors import NoModelError, UserError, one_line
from tasks.prediction.champions import NO_MODEL, Champion, predictors
from tasks.prediction.predictor import Predictor
from tasks.prediction.preparation import read_rows
from tasks.storage import duck
from tasks.storage.object_store import StoreError
from tasks.storage.warehouse import Warehouse

MAX_ROWS = 10_000  # of one pass, unless its first request has more
POLL_SECONDS = 1.0
SEE_LOG = "; the service's own log says why."
RETRY_SECONDS = 30.0  # after champions could not be loaded, and between two looks at a warehouse elsewhere
Rows = Sequence[Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class BadValue:
    """Why a track is refused."""

    row: int  # of the request, from 0
    column: str  # of the input (tasks/ingest/columns.py), or "audio features"
    error: str


class BadTracksError(Exception):
    """Tracks of a request that cannot be predicted, as flows.predict would reject them."""

    def __init__(self, found: list[BadValue]) -> None:
        super().__init__(f"{len(found)} bad values")
        self.found = found


class UnavailableError(Exception):
    """Nothing can be predicted now; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Request:
    """Tracks that wait to be predicted, and where their predictions (tasks.prediction.predictor.PREDICTED) will be."""

    rows: Rows
    answer: Future[pa.Table] = field(default_factory=Future)


class Service:
    """The champions of a warehouse, or `model` in their place, for as long as the block lasts.

    Args: threads: for each model. tell: what to do with a line for the operator.
    """

    def __init__(self, warehouse: Warehouse, model: str | None, threads: int, tell: Callable[[str], None]) -> None:
        self.predictor: Predictor | None = None
        self.problem: str | None = None  # why there is no predictor, or why a newer one could not be loaded
        self._warehouse, self._model, self._threads, self._tell = warehouse, model, threads, tell
        self._told = ""  # the same for the operator
        self._seen: list[str] | None = None
        self._retry_at = 0.0
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._at_work = [threading.Thread(target=work, daemon=True) for work in (self._answer, self._watch)]

    def __enter__(self) -> Service:
        duck.memory_mib()  # raises here, not in the thread that would answer
        self.refresh()
        for thread in self._at_work:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._requests.put(None)
        for thread in self._at_work:
            thread.join()

    def predict(self, rows: Rows) -> pa.Table:
        """Predictions (PREDICTED), one row for each of `rows`, in their order. Waits; may be called by any thread.

        Args: rows: as tasks.prediction.preparation.read_rows takes them, one at least.
        Raises: BadTracksError: naming every value that is refused; UnavailableError: no champion is loaded.
        """
        request = Request(rows)
        self._requests.put(request)
        if self._ended.is_set():
            raise UnavailableError("The service is ending.")
        return request.answer.result()

    def refresh(self) -> None:
        """Load the champions that stand, if they are others than those in use; those stay where that fails."""
        try:
            stored = self._stored()
        except (StoreError, OSError) as error:  # a store or a network's folder that does not answer
            self._report(f"The warehouse does not answer{SEE_LOG}", one_line(error))
            return
        if stored == self._seen and (self.problem is None or time.monotonic() < self._retry_at):
            return
        self._seen, self._retry_at = stored, time.monotonic() + RETRY_SECONDS
        try:
            with self._held():
                chosen = predictors(self._warehouse, self._model, self._threads)
                failed = self._exchange(chosen)
        except NoModelError as error:
            self._report(NO_MODEL, one_line(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, what is loaded goes on answering
            self._report(f"It cannot be found out which models predict{SEE_LOG}", _told(error))
        else:
            problem = f"The champion for {' and '.join(failed)} cannot be loaded{SEE_LOG}" if failed else None
            self._report(problem, "; ".join(dict.fromkeys(failed.values())))

    def _exchange(self, chosen: Mapping[str, Champion]) -> dict[str, str]:
        """Use these champions from now on. Returns: why those of some tasks cannot be; the ones before stay."""
        before = self.predictor or Predictor({}, {})
        by_task, loaded, failed = dict(before.by_task), dict(before.models), {}
        for task, champion in sorted(chosen.items()):
            if champion == before.by_task.get(task):
                continue
            try:
                predictor = Predictor.load({task: champion}, self._warehouse, self._threads, loaded)
                self._try(predictor)
            except Exception as error:  # noqa: BLE001 - of one task, whose model is its own
                failed[task] = _told(error)
            else:
                loaded |= predictor.models
                by_task[task] = champion
                self._tell(f"{task} by {champion.candidate.title}")
        if by_task != before.by_task:
            self.predictor = Predictor.load(by_task, self._warehouse, self._threads, loaded)
        return failed

    def _report(self, problem: str | None, told: str) -> None:
        """Say what is wrong: to clients without what is only this machine's, such as paths, to the operator in full."""
        if told and told != self._told:
            self._tell(told)
        self.problem, self._told = problem, told

    def _stored(self) -> list[str]:
        """What changes when other champions stand, or when a newer model of the name asked for is there."""
        files = self._warehouse.files("champions", "decisions")
        files += self._warehouse.files("runs", "finished") if self._model else []
        return [str(file) for file in files]

    def _held(self) -> AbstractContextManager[None]:
        """Keep upkeep from removing what is being loaded; of a read-only one nothing is removed from here."""
        return self._warehouse.in_use(reads_only=True)

    def _try(self, predictor: Predictor) -> None:
        """Have models compile what they compile when first used, and find out whether they predict at all."""
        with duck.workspace(self._warehouse.scratch) as connection:
            for n_rows in (1, 2):
                _predict(predictor, connection, [{"energy": 0.5}] * n_rows)

    def _watch(self) -> None:
        while not self._ended.wait(RETRY_SECONDS if self._warehouse.store else POLL_SECONDS):
            self.refresh()

    def _answer(self) -> None:
        with duck.workspace(self._warehouse.scratch) as connection:
            while (request := self._requests.get()) is not None:
                together = [request]
                while sum(len(one.rows) for one in together) < MAX_ROWS and not self._requests.empty():
                    another = self._requests.get()
                    if another is None:
                        self._requests.put(None)
                        break
                    together.append(another)
                self._pass(connection, together)
        while not self._requests.empty():
            if request := self._requests.get():
                request.answer.set_exception(UnavailableError("The service is ending."))

    def _pass(self, connection: duckdb.DuckDBPyConnection, together: list[Request]) -> None:
        """Predict requests in one go; where that fails each by itself, so that none suffers from another."""
        try:
            if self.predictor is None:
                raise UnavailableError(self.problem or "No champion is loaded.")  # noqa: TRY301
            rows = [
                row if row.get("instance_id") not in {None, ""} else {**row, "instance_id": position}
                for request in together
                for position, row in enumerate(request.rows, start=1)
            ]
            predicted, rejects = _predict(self.predictor, connection, rows)
        except Exception as error:  # noqa: BLE001 - the one who asked is told
            if len(together) == 1:
                together[0].answer.set_exception(error)
            for request in together if len(together) > 1 else []:
                self._pass(connection, [request])
            return
        first = 1  # row_number of the request's first row
        for request in together:
            last = first + len(request.rows) - 1
            bad = [BadValue(row - first, column, why) for row, column, why in rejects if first <= row <= last]
            if bad:
                request.answer.set_exception(BadTracksError(bad))
            else:
                request.answer.set_result(_rows_of(predicted, first, last))
            first = last + 1


def _told(error: Exception) -> str:
    return one_line(error if isinstance(error, UserError) else f"{type(error).__name__}: {error}")


def _predict(
    predictor: Predictor, connection: duckdb.DuckDBPyConnection, rows: Rows
) -> tuple[pa.Table, list[tuple[int, str, str]]]:
    """Predictions of the rows that can be predicted, and row_number, column and error of the values refused."""
    rejects: list[tuple[int, str, str]] = []
    if read_rows(connection, rows):
        query = "select row_number, column_name, error from raw.rejects order by all"
        rejects = connection.execute(query).fetchall()
    return predictor.predict(predictor.prepare(connection, 1, len(rows))), rejects


def _rows_of(predicted: pa.Table, first: int, last: int) -> pa.Table:
    """Rows `first` to `last` by row_number, numbered from 1."""
    start, end = np.searchsorted(predicted["row_number"].to_numpy(), [first, last + 1])
    part = predicted.slice(start, end - start)
    at = part.schema.get_field_index("row_number")
    return part.set_column(at, part.schema.field(at), pc.subtract(part["row_number"], first - 1))
