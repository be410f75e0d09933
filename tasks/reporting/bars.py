"""Bars and intervals as text for the terminal; in ASCII if the terminal's encoding is not Unicode."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

INTERVAL_WIDTH, BAR_WIDTH = 16, 6  # characters
EIGHTHS = " ▏▎▍▌▋▊▉█"


def intervals(rows: Sequence[tuple[float | None, float, float | None]], encoding: str) -> list[str]:
    """Draws each (low, value, high) as a whisker on a common scale; without an interval as a dot."""
    known = [value for row in rows for value in row if value is not None]
    start, span = (min(known), max(known) - min(known)) if known else (0.0, 0.0)
    left, line, right, dot = "├─┤●" if _is_unicode(encoding) else "|-|o"

    def at(value: float, to_whole: Callable[[float], int] = round) -> int:
        return to_whole((value - start) / (span or 1.0) * (INTERVAL_WIDTH - 1))

    drawn = []
    for low, value, high in rows:
        cells = [" "] * INTERVAL_WIDTH
        if low is not None and high is not None:
            first, last = at(low, math.floor), min(at(high, math.ceil), INTERVAL_WIDTH - 1)
            cells[first : last + 1] = line * (last - first + 1)
            cells[first], cells[last] = left, right
        cells[at(value)] = dot
        drawn.append("".join(cells))
    return drawn


def bar(value: float, most: float, encoding: str) -> str:
    """Draws a bar of length value / most, limited to 0 to 1."""
    share = min(1.0, max(0.0, value / most)) if most else 0.0
    if not _is_unicode(encoding):
        return "#" * round(share * BAR_WIDTH)
    whole, rest = divmod(round(share * BAR_WIDTH * 8), 8)
    return "█" * whole + EIGHTHS[rest].strip()


def _is_unicode(encoding: str) -> bool:
    return encoding.lower().replace("-", "").startswith("utf")
