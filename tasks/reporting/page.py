"""What a report is made of, and its HTML: one file that needs nothing else. Everything from data is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

from tasks.errors import one_line

TEMPLATES = Path(__file__).resolve().parent / "templates"
Cell = str | Markup  # text is escaped; markup comes from tasks.reporting.sparklines alone
LONGEST_TEXT = 300  # characters of a name or an error that are shown


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column: text, number (to the right) or plot (as wide as there is room)."""

    name: str
    kind: str = "text"


def texts(*names: str) -> list[Column]:
    """Columns of text."""
    return [Column(name) for name in names]


def numbers(*names: str) -> list[Column]:
    """Columns of numbers."""
    return [Column(name, "number") for name in names]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows whose first cell names them. The first `shown` are seen at once, the others on demand."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    axis: Markup | None = None  # below the column of plots
    legend: Sequence[tuple[Markup, str]] = ()
    shown: int = 12

    def parts(self) -> list[tuple[Sequence[Sequence[Cell]], bool]]:
        """The rows that are seen, and those on demand; a few more are no reason to hide them."""
        at = self.shown if len(self.rows) > self.shown + 3 else len(self.rows)
        return [(rows, is_seen) for rows, is_seen in ((self.rows[:at], True), (self.rows[at:], False)) if rows]


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing with a title of its own."""

    title: str
    svg: Markup
    finding: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What one question is answered with: a finding in words, and the drawings and tables that show it."""

    name: str  # its id in the page
    title: str
    finding: str  # a sentence a line
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    note: str = ""
    legend: Sequence[tuple[Markup, str]] = ()
    size: str = "middle"  # of its plots: small, middle, large, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A chapter of the page."""

    name: str
    title: str
    figures: Sequence[Figure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The whole report."""

    title: str
    kind: str  # above the title
    facts: Sequence[tuple[str, str]]
    findings: Sequence[str]
    sections: Sequence[Section]
    warnings: Sequence[str] = field(default_factory=list)
    generated: str | None = None  # the mark of every figure, if data is generated
    made: str = (
        "Made by music-benchmark from results.* of the published music.duckdb. Intervals are 95 % bootstrap intervals "
        "over test rows."
    )


def render(page: Page) -> str:
    """The page as HTML."""
    css = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))  # noqa: S704 - a file of ours
    return _environment().get_template("report.html").render(page=page, css=css)


def percent(share: float | None, digits: int = 0) -> str:
    """A share, 0 to 1, in percent; empty for None."""
    return "" if share is None else f"{100 * share:.{digits}f}\u00a0%"


def shortened(text: object) -> str:
    """A text from data as one line of bounded length, without characters that do not print."""
    line = one_line(text)
    return line if len(line) <= LONGEST_TEXT else f"{line[:LONGEST_TEXT]}…"


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
