"""Strips: small plots in table cells, as inline SVG without script or fonts, coloured by the page's style sheet.

Their x is in percent, so that they are as wide as the cell and their marks are not stretched. Screen readers skip
them, because the table has the numbers, too. Series differ by shape, dash or height as well as by colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

MARKS = ("circle", "square", "diamond", "triangle", "ring", "cross")
_BAR_HEIGHTS = (0.7, 0.4, 1.0)
_SHAPES = {
    "circle": "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",
    "square": "M-4 -4h8v8h-8z",
    "diamond": "M0 -5.5L5.5 0L0 5.5L-5.5 0z",
    "triangle": "M0 -5L5 4.5H-5z",
    "ring": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "cross": "M-4 -4L4 4M4 -4L-4 4",
}


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """Returns an element with everything escaped.

    Args: attributes: in Python's spelling (stroke_width, class_); those that are None are left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(children)
    return Markup(f"<{name}{written}>{inner}</{name}>") if inner else Markup(f"<{name}{written}/>")  # noqa: S704


def _text(value: object) -> str:
    """Returns a value as text, coordinates with one decimal: that is accurate enough, and a third of the bytes."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear scale: maps values to shares of a strip's width."""

    low: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float | None], *, zero: bool = False, room: float = 0.04) -> Scale:
        """Returns a scale for all values, and for 0 if `zero`, with some room at both ends."""
        known = [value for value in values if value is not None and math.isfinite(value)] + ([0.0] if zero else [])
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        margin = room * (high - low) or 0.5 * abs(high) or 0.5
        return cls(0.0 if zero and low >= 0 else low - margin, high + margin)

    def share(self, value: float) -> float:
        """0 at low, 1 at high."""
        return (value - self.low) / (self.high - self.low)

    def percent(self, value: float) -> str:
        """Returns SVG's x in percent; values outside the scale are put at its end."""
        return f"{100 * min(1.0, max(0.0, self.share(value))):.2f}%"

    def ticks(self, most: int = 4) -> list[float]:
        """Returns round values within the scale."""
        rough = (self.high - self.low) / most
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(size * unit for size in (1, 2, 2.5, 5, 10) if size * unit >= rough)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class LogScale(Scale):
    """A logarithmic scale; all values are above 0."""

    @classmethod
    def over(cls, values: Iterable[float | None], *, zero: bool = False, room: float = 0.04) -> LogScale:  # noqa: ARG003 - 0 has no logarithm
        """Returns a scale for all values, with some room at both ends."""
        logs = [None if value is None else math.log(value) for value in values]
        inner = Scale.over(logs, room=room)
        return cls(math.exp(inner.low), math.exp(inner.high))

    def share(self, value: float) -> float:
        """0 at low, 1 at high."""
        return math.log(value / self.low) / math.log(self.high / self.low)

    def ticks(self, most: int = 6) -> list[float]:
        """Returns round values within the scale: as many of 1, 2, 5 and their tenfolds as there is room for."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1, 2, 5), (1, 3), (1,)):
            found = [digit * 10.0**power for power in powers for digit in digits]
            found = [value for value in found if self.low <= value <= self.high]
            if len(found) <= most:
                break
        return found


@dataclass(frozen=True, slots=True)
class Mark:
    """A value on a strip, with its interval; `series` determines shape and colour."""

    value: float
    low: float | None = None
    high: float | None = None
    series: int = 0


def mark(series: int, x: str = "0", y: int = 0) -> Markup:
    """Draws the mark of a series around a point. Its shape is one of `shapes`, which the page has once."""
    shape = MARKS[series % len(MARKS)]
    kind = "open" if shape in {"ring", "cross"} else "solid"
    return tag("use", href=f"#{shape}", x=x, y=y, class_=f"{kind} s{series % 6}")


def shapes() -> Markup:
    """Returns the shapes of all marks, for the top of a page; nothing is drawn there."""
    paths = [tag("path", id=name, d=path) for name, path in _SHAPES.items()]
    return tag("svg", tag("defs", *paths), width=0, height=0, aria_hidden="true")


def key(series: int) -> Markup:
    """Draws the mark of a series for a legend."""
    return tag("svg", mark(series), width=14, height=14, viewBox="-7 -7 14 14", aria_hidden="true")


def key_bar(series: int) -> Markup:
    """Draws the bar of a series for a legend."""
    height = 14 * _BAR_HEIGHTS[series % 3]
    bar = tag("rect", x=0, y=14 - height, width=14, height=height, class_=f"s{series % 6}")
    return tag("svg", bar, width=14, height=14, viewBox="0 0 14 14", aria_hidden="true")


def dash(series: int) -> Markup:
    """Draws the line of a series for a legend."""
    line = tag("path", d="M0 7H26", class_=f"curve s{series % 6}")
    return tag("svg", line, width=26, height=14, viewBox="0 0 26 14", aria_hidden="true")


def dots(scale: Scale, marks: Sequence[Mark | None], line: float | None = None) -> Markup:
    """Draws values with their intervals on one strip; `line` is a value to compare with."""
    parts: list[Markup] = []
    if line is not None:
        at = scale.percent(line)
        parts.append(tag("line", x1=at, x2=at, y1=0, y2=22, class_="zero"))
    for one in (one for one in marks if one is not None):
        colour = f"s{one.series % 6}"
        if one.low is not None and one.high is not None:
            left, right = scale.percent(one.low), scale.percent(one.high)
            parts.append(tag("line", x1=left, x2=right, y1=11, y2=11, class_=f"whisker {colour}"))
            parts += [tag("line", x1=x, x2=x, y1=7, y2=15, class_=f"whisker {colour}") for x in (left, right)]
        parts.append(mark(one.series, scale.percent(one.value), 11))
    return _strip(parts)


def span(scale: Scale, start: float, end: float, series: int = 0) -> Markup:
    """Draws a bar from one value to another; a very short one is a hairline."""
    at = scale.share(start)
    width = max(100 * (scale.share(end) - at), 0.3 if end > start else 0)
    return _strip([tag("rect", x=f"{100 * at:.2f}%", y=4, width=f"{width:.2f}%", height=14, class_=f"s{series}")])


def axis(scale: Scale, label: Callable[[float], str]) -> Markup:
    """Draws the ticks of a column of strips; of three or more a phone has room for every second label."""
    parts, ticks = [], scale.ticks()
    for place, value in enumerate(ticks):
        at, share = scale.percent(value), scale.share(value)
        anchor = "start" if share < 0.08 else "end" if share > 0.92 else "middle"
        kind = "axis secondary" if place % 2 and len(ticks) > 2 else "axis"
        parts.append(tag("line", x1=at, x2=at, y1=0, y2=5, class_="tick"))
        parts.append(tag("text", label(value), x=at, y=17, text_anchor=anchor, class_=kind))
    return _strip(parts)


def _strip(parts: Iterable[Markup]) -> Markup:
    return tag("svg", *parts, class_="strip", aria_hidden="true")


def plain(value: float) -> str:
    """Returns a tick's label."""
    return f"{value:g}"


def signed(value: float) -> str:
    """Returns a tick's label with its sign."""
    return f"{value:+g}" if value else "0"


def lanes(scale: Scale, rows: Sequence[Sequence[tuple[float, float, str, int]]], alt: str, unit: str) -> Markup:
    """Draws bars in lanes, as wide as the page; the three series differ in height as well as in colour.

    Args: rows: the lanes; a bar is (start, end, title, series). unit: of the scale, for its ticks.
    """
    height, parts = 30, []
    for place, row in enumerate(rows):
        for start, end, title, series in row:
            x, width = 100 * scale.share(start), 100 * (scale.share(end) - scale.share(start))
            high = (height - 4) * _BAR_HEIGHTS[series % 3]
            bar = {
                "x": f"{x:.2f}%",
                "width": f"{max(width, 0.15):.2f}%",
                "y": (place + 1) * height - high,
                "height": high,
            }
            parts.append(tag("rect", tag("title", title), class_=f"lane s{series}", **bar))
    bottom = len(rows) * height
    for value in scale.ticks(6):
        at, share = scale.percent(value), scale.share(value)
        anchor = "start" if share < 0.05 else "end" if share > 0.95 else "middle"
        parts.append(tag("line", x1=at, x2=at, y1=0, y2=bottom + 4, class_="tick"))
        parts.append(tag("text", f"{value:g} {unit}", x=at, y=bottom + 17, text_anchor=anchor, class_="axis"))
    return tag("svg", *parts, class_="wide", height=bottom + 22, role="img", aria_label=alt)
