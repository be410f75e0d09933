"""Plots as inline SVG without script or fonts; a plot has a fixed size and shrinks with the page.

Colours come from the page's style sheet. The `alt` text of a plot says in words what it shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tasks.reporting.sparklines import Scale, tag

SHADES = 9  # classes q0 to q8 of the style sheet
NUMBERED_CELLS = 14  # a matrix with more rows or columns has no numbers in its cells
LABELLED_CELLS = 36  # a matrix with more rows or columns has no labels
LONGEST_LABEL = 24  # characters; names of genres may have any length
LETTER = 6.0  # width of a letter of a label


def matrix(
    rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]],
    texts: Callable[[float], str], shade: Callable[[float], float], alt: str,
    *, signed: bool = False, least: float = 0.0,
) -> Markup:  # fmt: skip
    """Draws a heat map; a small one has numbers in its cells.

    Args: values: (n_rows, n_columns), None is left empty. texts: returns the text of a cell. shade: returns the depth
        of a cell's colour, 0 to 1. signed: whether negative values have another colour. least: values nearer to 0
        are left empty.
    """
    n, m = len(rows), len(columns)
    has_labels, has_numbers = max(n, m) <= LABELLED_CELLS, max(n, m) <= NUMBERED_CELLS
    left = _left(rows, columns) if has_labels else 4.0
    size = (392 - left) / max(m, 1)
    height = min(size, 22.0) if has_numbers else size
    parts: list[Markup] = []
    shades: dict[tuple[int, bool], list[str]] = {}
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            if value is None or abs(value) < least:
                continue
            depth = min(SHADES - 1, int(SHADES * min(1.0, max(0.0, shade(value)))))
            x, y = left + j * size, i * height
            is_negative = signed and value < 0
            shades.setdefault((depth, is_negative), []).append(f"M{x:.1f} {y:.1f}h{size:.1f}v{height:.1f}h-{size:.1f}z")
            if has_numbers:
                middle = {"x": x + size / 2, "y": y + height / 2 + 3.2}
                parts.append(tag("text", texts(value), text_anchor="middle", class_=f"cell t{depth}", **middle))
    cells = [
        tag("path", d="".join(d), class_=f"q{depth}" + (" negative" if is_negative else ""))
        for (depth, is_negative), d in sorted(shades.items())
    ]
    below = 6.0
    if has_labels:
        parts += [_label(name, x=left - 4, y=i * height + height / 2 + 3.2) for i, name in enumerate(rows)]
        bottom = n * height + 6
        for j, name in enumerate(columns):
            x = left + (j + 0.5) * size + 3
            parts.append(_label(name, x=x, y=bottom + 4, transform=f"rotate(-60 {x:.1f} {bottom + 4:.1f})"))
        below = 18 + 0.87 * LETTER * max(map(_width, columns), default=0)
    border = tag("rect", x=left, y=0.5, width=m * size - 0.5, height=n * height, class_="frame")
    return _plot(400, n * height + below, [*cells, border, *parts], alt, kind="plot matrix")


def _left(rows: Sequence[str], columns: Sequence[str]) -> float:
    """Returns the width of the labels of a matrix's rows, and of what its columns' turned labels need beside them."""
    beside = 8 + LETTER * max(map(_width, rows), default=0)
    size = (392 - beside) / max(len(columns), 1)
    return max([beside, *(LETTER * _width(name) / 2 - (j + 0.5) * size for j, name in enumerate(columns))])


def _width(name: str) -> int:
    return min(len(name), LONGEST_LABEL)


def _label(name: str, **places: object) -> Markup:
    """Draws a label that ends at a place; a very long one is cut, and its whole text is its title."""
    is_whole = len(name) <= LONGEST_LABEL
    text = [name] if is_whole else [f"{name[: LONGEST_LABEL - 1]}…", tag("title", name)]
    return tag("text", *text, text_anchor="end", class_="axis", **places)


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points, with marks if `sizes` are given; `series` determines dash and colour."""

    points: Sequence[tuple[float, float]]
    series: int = 0
    sizes: Sequence[float] | None = None  # areas of the marks, 0 to 1
    faint: bool = False


def curves(
    lines: Sequence[Curve], x: Scale, y: Scale, alt: str, *, x_label: str, y_label: str, diagonal: bool = False,
    size: tuple[float, float] = (240.0, 180.0),
) -> Markup:  # fmt: skip
    """Draws lines in a frame with ticks on both axes."""
    width, height = size
    at_x, at_y = _frame(x, y, width, height)
    parts = _ticks(x, y, width, height, x_label, y_label)
    if diagonal:
        low, high = max(x.low, y.low), min(x.high, y.high)
        parts.append(tag("line", x1=at_x(low), y1=at_y(low), x2=at_x(high), y2=at_y(high), class_="diagonal"))
    for line in lines:
        path = "M" + "L".join(f"{at_x(a):.1f} {at_y(b):.1f}" for a, b in line.points) if line.points else ""
        parts.append(tag("path", d=path, class_=f"curve s{line.series % 6}" + (" faint" if line.faint else "")))
        for (a, b), area in zip(line.points, line.sizes or (), strict=False):
            radius = 1.5 + 4.5 * math.sqrt(area)
            parts.append(tag("circle", cx=at_x(a), cy=at_y(b), r=radius, class_=f"solid s{line.series % 6}"))
    return _plot(width, height, parts, alt)


def dot(series: int) -> Markup:
    """Draws the mark of a curve of one point, for a legend."""
    circle = tag("circle", cx=0, cy=0, r=5, class_=f"solid s{series % 6}")
    return tag("svg", circle, width=14, height=14, viewBox="-7 -7 14 14", aria_hidden="true")


def density(
    cells: Sequence[tuple[float, float, float]], step: float, x: Scale, y: Scale, line: Sequence[tuple[float, float]],
    alt: str, *, x_label: str, y_label: str,
) -> Markup:  # fmt: skip
    """Draws counts on a grid of squares, with the diagonal and a line; a deeper colour means more rows.

    Args: cells: (x, y, n) for each square, x and y of its lower left corner. step: width of a square.
    """
    width, height = 320.0, 300.0
    at_x, at_y = _frame(x, y, width, height)
    most = max((n for _, _, n in cells), default=1)
    shades: dict[int, list[str]] = {}
    for a, b, n in cells:
        depth = min(SHADES - 1, 1 + int((SHADES - 1) * math.sqrt(n / most)))
        across, up = at_x(a + step) - at_x(a), at_y(b) - at_y(b + step)
        shades.setdefault(depth, []).append(f"M{at_x(a):.1f} {at_y(b):.1f}h{across:.1f}v-{up:.1f}h-{across:.1f}z")
    parts = [tag("path", d="".join(d), class_=f"q{depth}") for depth, d in sorted(shades.items())]
    parts += _ticks(x, y, width, height, x_label, y_label)
    low, high = max(x.low, y.low), min(x.high, y.high)
    parts.append(tag("line", x1=at_x(low), y1=at_y(low), x2=at_x(high), y2=at_y(high), class_="diagonal"))
    if line:
        path = "M" + "L".join(f"{at_x(a):.1f} {at_y(b):.1f}" for a, b in line)
        parts += [tag("path", d=path, class_="curve halo"), tag("path", d=path, class_="curve s1")]
    return _plot(width, height, parts, alt)


def histogram(counts: Sequence[int], low: float, high: float, alt: str, label: Callable[[float], str]) -> Markup:
    """Draws bars of equal width from low to high, with labels at both ends."""
    width, height, most = 150.0, 62.0, max([*counts, 1])
    step = width / max(len(counts), 1)
    bars = [
        f"M{i * step:.1f} 46v-{44 * n / most:.1f}h{max(step - 0.6, 0.4):.1f}v{44 * n / most:.1f}z"
        for i, n in enumerate(counts)
        if n
    ]
    ends = ((0.0, low, "start"), (width, high, "end"))
    parts = [tag("path", d="".join(bars), class_="s0"), tag("line", x1=0, x2=width, y1=46, y2=46, class_="tick")]
    parts += [tag("text", label(value), x=x, y=58, text_anchor=anchor, class_="axis") for x, value, anchor in ends]
    return _plot(width, height, parts, alt)


_LEFT, _BOTTOM, _TOP = 40.0, 34.0, 6.0


def _frame(
    x: Scale, y: Scale, width: float, height: float
) -> tuple[Callable[[float], float], Callable[[float], float]]:
    return (
        lambda value: _LEFT + (width - _LEFT - 8) * min(1.0, max(0.0, x.share(value))),
        lambda value: height - _BOTTOM - (height - _BOTTOM - _TOP) * min(1.0, max(0.0, y.share(value))),
    )


def _ticks(x: Scale, y: Scale, width: float, height: float, x_label: str, y_label: str) -> list[Markup]:
    at_x, at_y = _frame(x, y, width, height)
    floor = height - _BOTTOM
    parts = [tag("path", d=f"M{_LEFT} {_TOP}V{floor}H{width - 8}", class_="frame")]
    for value in x.ticks():
        parts.append(tag("line", x1=at_x(value), x2=at_x(value), y1=floor, y2=floor + 4, class_="tick"))
        anchor = "end" if at_x(value) > width - 12 else "middle"
        parts.append(tag("text", f"{value:g}", x=at_x(value), y=floor + 14, text_anchor=anchor, class_="axis"))
    for value in y.ticks():
        parts.append(tag("line", x1=_LEFT, x2=width - 8, y1=at_y(value), y2=at_y(value), class_="grid"))
        parts.append(tag("text", f"{value:g}", x=_LEFT - 4, y=at_y(value) + 3.5, text_anchor="end", class_="axis"))
    parts.append(tag("text", x_label, x=(width + _LEFT) / 2, y=height - 5, text_anchor="middle", class_="axis"))
    turned = {"x": 9, "y": (height - _BOTTOM) / 2, "transform": f"rotate(-90 9 {(height - _BOTTOM) / 2})"}
    parts.append(tag("text", y_label, text_anchor="middle", class_="axis", **turned))
    return parts


def _plot(width: float, height: float, parts: Iterable[Markup], alt: str, kind: str = "plot") -> Markup:
    """Draws a plot. Args: kind: its classes in the style sheet, by which a matrix is wider than other plots."""
    box = f"0 0 {width:g} {height:.0f}"
    style = None if "matrix" in kind else f"max-width:{1.35 * width:.0f}px"
    return tag("svg", *parts, class_=kind, viewBox=box, style=style, role="img", aria_label=alt)
