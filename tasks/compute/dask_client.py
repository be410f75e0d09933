"""Access to a Dask cluster from a client or a worker. Dask is optional, so it is imported where it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tasks.errors import UserError, one_line

CONNECT_SECONDS = 10.0


def check_installed() -> None:
    """Checks that Dask is installed. Raises: UserError: it is not."""
    try:
        import prefect_dask  # noqa: F401
    except ImportError as error:
        raise UserError("Dask is not installed: pip install --constraint constraints.txt -e '.[dask]'") from error


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Yields a client of the Dask scheduler at an address. Raises: UserError: no scheduler answers there."""
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise UserError(
            f"{address}: no Dask scheduler answers there ({one_line(error)}). Start one (dask scheduler), or give its "
            "address as tcp://HOST:PORT."
        ) from error
    try:
        yield client
    finally:
        with suppress(Exception):
            client.close(timeout=CONNECT_SECONDS)  # type: ignore[no-untyped-call]


def current_worker() -> tuple[Any, Callable[[], bool]]:
    """Returns the Dask worker of the calling task, and a function: whether the flow still waits for that task."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state != "cancelled"

    return worker, is_wanted
