"""How much a test does: a little in `make test`, everything in `make test-all`, which sets TESTS=all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, TypeVar

import pytest

IS_ALL = os.environ.get("TESTS") == "all"
Amount = TypeVar("Amount")


def amount(few: Amount, everything: Amount) -> Amount:
    """Of files, examples or seconds: what `make test` has time for, and what proves the most."""
    return everything if IS_ALL else few


def mostly_long(values: Iterable[Any], *quick: Any) -> list[Any]:
    """Parameters of a test: those that are not `quick` are marked long."""
    several = [(value, value if isinstance(value, tuple) else (value,)) for value in values]
    return [pytest.param(*parts, marks=() if value in quick else pytest.mark.long) for value, parts in several]
