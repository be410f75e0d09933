"""The parts of a report, and its self-contained HTML page. All text from data is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

from tasks.errors import one_line

TEMPLATES = Path(__file__).resolve().parent / "templates"
HtmlCell = str | Markup  # text is escaped; markup comes from tasks.reporting.sparklines alone
LONGEST_TEXT = 300  # longest name or error shown, in characters


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column; its kind is text, wrap (text in several lines), number (aligned right) or plot (full width)."""

    name: str
    kind: str = "text"


def texts(*names: str) -> list[Column]:
    """Returns columns of text."""
    return [Column(name) for name in names]


def numbers(*names: str) -> list[Column]:
    """Returns columns of numbers."""
    return [Column(name, "number") for name in names]


@dataclass(frozen=True, slots=True, kw_only=True)
class HtmlTable:
    """A table; the first cell of a row is its name. The first `shown` rows are visible, the others on demand."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[HtmlCell]]
    axis: Markup | None = None  # below the column of plots
    legend: Sequence[tuple[Markup, str]] = ()
    shown: int = 12

    def parts(self) -> list[tuple[Sequence[Sequence[HtmlCell]], bool]]:
        """Returns the visible rows and the rows on demand; up to three rows more than `shown` are all visible."""
        at = self.shown if len(self.rows) > self.shown + 3 else len(self.rows)
        return [(rows, is_seen) for rows, is_seen in ((self.rows[:at], True), (self.rows[at:], False)) if rows]


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing with a title."""

    title: str
    svg: Markup
    finding: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """The answer to one question: a finding in words, with the drawings and tables that show it."""

    name: str  # its id in the page
    title: str
    finding: str  # one sentence per line
    plots: Sequence[Plot] = ()
    tables: Sequence[HtmlTable] = ()
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
    """A whole report."""

    title: str
    kind: str  # above the title
    facts: Sequence[tuple[str, str]]
    findings: Sequence[str]
    sections: Sequence[Section]
    warnings: Sequence[str] = field(default_factory=list)
    generated: str | None = None  # the warning, if data is generated; it marks every figure
    made: str = (
        "Made by music-benchmark from results.* of the published music.duckdb. Intervals are 95 % bootstrap intervals "
        "over test rows."
    )


def render(page: Page) -> str:
    """Returns the page as HTML."""
    css = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))  # noqa: S704 - a file of ours
    return _environment().get_template("report.html").render(page=page, css=css)


def percent(share: float | None, digits: int = 0) -> str:
    """Returns a share, 0 to 1, in percent; empty for None."""
    return "" if share is None else f"{100 * share:.{digits}f}\u00a0%"


def shortened(text: object) -> str:
    """Returns a text from data as one line of bounded length, without unprintable characters."""
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
