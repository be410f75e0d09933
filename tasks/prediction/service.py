"""The prediction service: it keeps the champions loaded and answers requests of many threads.

One thread predicts. It takes all requests that wait and predicts them in one pass, because a pass takes some
milliseconds for any number of rows, and models use every core by themselves. Another thread checks every second
whether there are new champions. It loads them while the old ones go on answering, and then replaces these.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.errors import NoModelError, UserError, one_line
from tasks.prediction.champions import NO_MODEL, Champion, predictors
from tasks.prediction.predictor import Predictor, RowPredictor
from tasks.prediction.preparation import Rows
from tasks.storage import duck
from tasks.storage.object_store import StoreError
from tasks.storage.warehouse import Warehouse

MAX_ROWS = 10_000  # in one pass, unless its first request has more
POLL_SECONDS = 1.0
SEE_LOG = "; the service's own log says why."
RETRY_SECONDS = 30.0  # after champions could not be loaded, and between two checks of a remote warehouse


@dataclass(frozen=True, slots=True)
class BadValue:
    """A value that is refused, and the reason."""

    row: int  # in the request, from 0
    column: str  # name in the input (tasks/ingest/columns.py), or "audio features"
    error: str


class BadTracksError(Exception):
    """Raised if tracks of a request have bad values; flows.predict rejects the same ones."""

    def __init__(self, found: list[BadValue]) -> None:
        super().__init__(f"{len(found)} bad values")
        self.found = found


class UnavailableError(Exception):
    """Raised if nothing can be predicted now; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Request:
    """Tracks that wait for predictions, and the future that receives them (schema predictor.PREDICTED)."""

    rows: Rows
    answer: Future[pa.Table] = field(default_factory=Future)


class Service:
    """A context manager that answers requests with the champions of a warehouse, or with `model` in their place.

    Args: model: name of a model that replaces the champion of each task it predicts. threads: threads of each model.
        log: is called with each line for the operator.
    """

    def __init__(self, warehouse: Warehouse, model: str | None, threads: int, log: Callable[[str], None]) -> None:
        self.problem: str | None = None  # why there is no predictor, or why a newer one could not be loaded
        self._in_use: RowPredictor | None = None
        self._warehouse, self._model, self._threads, self._log = warehouse, model, threads, log
        self._logged = ""  # the last problem in the operator's words
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

    @property
    def predictor(self) -> Predictor | None:
        """The models in use; None if there are none."""
        return self._in_use.predictor if self._in_use else None

    def predict(self, rows: Rows) -> pa.Table:
        """Waits for predictions (schema PREDICTED), one per row in the same order; any thread may call it.

        Args: rows: at least one row, in the form of tasks.prediction.preparation.read_rows.

        Raises: BadTracksError: values are refused; it lists all of them; UnavailableError: no champion is loaded.
        """
        request = Request(rows)
        self._requests.put(request)
        if self._ended.is_set():
            raise UnavailableError("The service is ending.")
        return request.answer.result()

    def refresh(self) -> None:
        """Loads the current champions if they are not those in use; if that fails, the old ones stay in use."""
        try:
            stored = self._stored()
        except (StoreError, OSError) as error:  # an object store or a network folder that does not answer
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
        except Exception as error:  # noqa: BLE001 - after any error, the loaded models go on answering
            self._report(f"The champions cannot be determined{SEE_LOG}", _in_words(error))
        else:
            problem = f"The champion for {' and '.join(failed)} cannot be loaded{SEE_LOG}" if failed else None
            self._report(problem, "; ".join(dict.fromkeys(failed.values())))

    def _exchange(self, chosen: Mapping[str, Champion]) -> dict[str, str]:
        """Puts champions into use. Returns: by task, why its champion cannot be loaded.

        The one before it stays in use then, unless it is of another catalogue.
        """
        before = self.predictor or Predictor({}, {})
        catalogues = {champion.candidate.catalogue for champion in chosen.values()}
        by_task = {task: one for task, one in before.by_task.items() if one.candidate.catalogue in catalogues}
        loaded, failed = dict(before.models), {}
        for task, champion in sorted(chosen.items()):
            if champion == before.by_task.get(task):
                continue
            try:
                predictor = Predictor.load({task: champion}, self._warehouse, self._threads, loaded)
                self._try(predictor)
            except Exception as error:  # noqa: BLE001 - any error of one task leaves the other tasks alone
                failed[task] = _in_words(error)
            else:
                loaded |= predictor.models
                by_task[task] = champion
                self._log(f"{task} by {champion.candidate.title}")
        if by_task != before.by_task:
            predictor = Predictor.load(by_task, self._warehouse, self._threads, loaded)
            self._in_use = RowPredictor.of(predictor) if by_task else None
        return failed

    def _report(self, problem: str | None, details: str) -> None:
        """Stores the problem for clients, without internals such as paths, and logs the details for the operator."""
        if details and details != self._logged:
            self._log(details)
        self.problem, self._logged = problem, details

    def _stored(self) -> list[str]:
        """Returns files whose names change when there are new champions, another catalogue, or a newer named model."""
        names = (("champions", "decisions"), ("runs", "finished"))
        return [str(file) for name in names for file in self._warehouse.files(*name)]

    def _held(self) -> AbstractContextManager[None]:
        """Keeps upkeep from removing what is being loaded."""
        return self._warehouse.in_use(reads_only=True)

    def _try(self, predictor: Predictor) -> None:
        """Predicts once, so that models compile their code now and broken ones fail here."""
        tried = RowPredictor.of(predictor)
        for n_rows in (1, 2):
            tried.predict([{"energy": 0.5}] * n_rows)

    def _watch(self) -> None:
        while not self._ended.wait(RETRY_SECONDS if self._warehouse.is_remote else POLL_SECONDS):
            self.refresh()

    def _answer(self) -> None:
        while (request := self._requests.get()) is not None:
            together = [request]
            while sum(len(one.rows) for one in together) < MAX_ROWS and not self._requests.empty():
                another = self._requests.get()
                if another is None:
                    self._requests.put(None)
                    break
                together.append(another)
            self._pass(together)
        while not self._requests.empty():
            if request := self._requests.get():
                request.answer.set_exception(UnavailableError("The service is ending."))

    def _pass(self, together: list[Request]) -> None:
        """Predicts requests together; if that fails, each by itself, so that one bad request fails alone."""
        try:
            in_use = self._in_use
            if in_use is None:
                raise UnavailableError(self.problem or "No champion is loaded.")  # noqa: TRY301
            rows = [
                row if row.get("instance_id") not in {None, ""} else {**row, "instance_id": position}
                for request in together
                for position, row in enumerate(request.rows, start=1)
            ]
            predicted, rejects = in_use.predict(rows)
        except Exception as error:  # noqa: BLE001 - the request receives any error
            if len(together) == 1:
                together[0].answer.set_exception(error)
            for request in together if len(together) > 1 else []:
                self._pass([request])
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


def _in_words(error: Exception) -> str:
    return one_line(error if isinstance(error, UserError) else f"{type(error).__name__}: {error}")


def _rows_of(predicted: pa.Table, first: int, last: int) -> pa.Table:
    """Returns the rows with row_number `first` to `last`, renumbered from 1."""
    start, end = np.searchsorted(predicted["row_number"].to_numpy(), [first, last + 1])
    part = predicted.slice(start, end - start)
    at = part.schema.get_field_index("row_number")
    return part.set_column(at, part.schema.field(at), pc.subtract(part["row_number"], first - 1))
