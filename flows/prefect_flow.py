"""Makes a Prefect flow of a command's function.

Command modules do not do so themselves: the import of Prefect takes a second, for which their help does not wait.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from prefect import Flow, flow
from prefect.runtime import flow_run

from flows.options import signature_of
from tasks.ingest.source_names import default_source
from tasks.storage.urls import public_name


def flow_of(function: Callable[..., Any]) -> Flow[..., Any]:
    """Returns the Prefect flow of a function, named after it. A flow run's name says what it reads."""

    @wraps(function)
    def body(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    body.__signature__ = signature_of(function)  # type: ignore[attr-defined]
    return flow(name=function.__name__.replace("_", "-"), flow_run_name=_run_name)(body)


def _run_name() -> str:
    """Returns such as "benchmark published of musicData.csv", from the parameters of the current flow run."""
    given = flow_run.parameters
    words = [str(flow_run.flow_name).replace("-", " ")]
    words += [str(given[name]) for name in ("task", "model", "protocol") if "source" in given and given.get(name)]
    if "source" in given or "tracks" in given:
        read = given["tracks"] if "tracks" in given else default_source(given["source"])
        words += ["of", (public_name(read) if "://" in read else read).rstrip("/").rpartition("/")[2]]
    return " ".join(words)
