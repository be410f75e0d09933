"""A stand-in of marimo, as far as the example notebook uses it: its cells run, with the choices that a test makes."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any


class StopError(Exception):
    """A cell ended by mo.stop: the cells that need its names do not run."""


@dataclass
class StandIn:
    """What the notebook says, and the choices of who looks at it, by their labels: else the first, or the given one."""

    choices: Mapping[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def module(self) -> ModuleType:
        """To be imported as marimo."""
        made = ModuleType("marimo")
        made.App = App
        made.Html = made.md = self.say
        made.callout = made.vstack = lambda *items, **_options: items
        made.stop = self.stop
        made.ui = SimpleNamespace(dropdown=self.dropdown, number=self.number)
        return made

    def say(self, text: str) -> str:
        self.said.append(text)
        return text

    def stop(self, predicate: bool, output: str = "") -> None:
        if predicate:
            raise StopError
        if output:  # it was made, but is not shown
            self.said.remove(output)

    def dropdown(self, options: Any, *, allow_select_none: bool, label: str) -> SimpleNamespace:
        assert allow_select_none is False
        values = options if isinstance(options, dict) else {option: option for option in options}
        return SimpleNamespace(value=values[self.choices.get(label, next(iter(values)))])

    def number(self, *, value: float, label: str, **_options: object) -> SimpleNamespace:
        return SimpleNamespace(value=self.choices.get(label, value))


class App:
    """Runs cells in the order of the names that they need."""

    def __init__(self, **_options: object) -> None:
        self.setup = nullcontext()
        self.cells: list[Callable[..., Any]] = []

    def function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    def cell(self, function: Callable[..., Any]) -> Callable[..., Any]:
        self.cells.append(function)
        return function

    def run(self) -> dict[str, Any]:
        known: dict[str, Any] = {}
        waiting = list(self.cells)
        while ready := [cell for cell in waiting if set(inspect.signature(cell).parameters) <= set(known)]:
            for cell in ready:
                waiting.remove(cell)
                try:
                    made = cell(*(known[name] for name in inspect.signature(cell).parameters))
                except StopError:
                    continue
                known |= dict(zip(_names_of(cell), made or (), strict=True))
        return known


def _names_of(cell: Callable[..., Any]) -> list[str]:
    [function] = ast.parse(textwrap.dedent(inspect.getsource(cell))).body
    last = function.body[-1]
    assert isinstance(last, ast.Return)  # as marimo writes every cell
    return [name.id for name in last.value.elts] if last.value else []
