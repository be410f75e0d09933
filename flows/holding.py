"""The lock against upkeep that a flow holds while it runs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from flows import cli
from flows.options import signature_of

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def holding_warehouse(body: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorates the function of a flow with a parameter `warehouse`: while it runs, upkeep removes nothing there."""

    @functools.wraps(body)
    def held(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        from tasks.storage.warehouse import Warehouse

        warehouse = Warehouse.at(signature_of(body).bind(*args, **kwargs).arguments.get("warehouse"))
        with warehouse.in_use(tell_of_upkeep):
            return body(*args, **kwargs)

    return held


def tell_of_upkeep() -> None:
    """Says that upkeep is waited for."""
    cli.tell("Waiting for upkeep of another machine to end ...")
