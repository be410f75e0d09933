"""The parts of a report, and its self-contained HTML page. All text from data is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

from tasks.errors import one_line
from tasks.reporting import sparklines

TEMPLATES = Path(__file__).resolve().parent / "templates"
HtmlCell = str | Markup  # text is escaped; markup comes from tasks.reporting.sparklines alone
LONGEST_TEXT = 300  # longest name or error shown, in characters


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column; its kind is text, wrap (text in several lines), number (aligned right) or plot (full width)."""

    name: str
    kind: str = "text"
    is_secondary: bool = False  # left out on a phone

    @property
    def style(self) -> str:
        """Its classes in the style sheet."""
        return f"{self.kind} secondary" if self.is_secondary else self.kind


def texts(*names: str) -> list[Column]:
    """Returns columns of text."""
    return [Column(name) for name in names]


def numbers(*names: str) -> list[Column]:
    """Returns columns of numbers."""
    return [Column(name, "number") for name in names]


def secondary(columns: Sequence[Column]) -> list[Column]:
    """Returns columns that a phone leaves out."""
    return [replace(column, is_secondary=True) for column in columns]


@dataclass(frozen=True, slots=True, kw_only=True)
class HtmlTable:
    """A table; the first cell of a row is its name. The first `shown` rows are visible, the others on demand."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[HtmlCell]]
    sql: str = ""  # the SELECT whose rows it shows
    anchors: Sequence[str] = ()  # ids of its rows, to which links lead; empty where a row has none
    axis: Markup | None = None  # below the column of plots
    legend: Sequence[tuple[Markup, str]] = ()
    shown: int = 12

    def parts(self) -> list[tuple[list[tuple[str, Sequence[HtmlCell]]], bool]]:
        """Returns the visible rows and the rows on demand, each row with its anchor.

        Up to three rows more than `shown` are all visible.
        """
        at = self.shown if len(self.rows) > self.shown + 3 else len(self.rows)
        rows = list(zip(self.anchors or [""] * len(self.rows), self.rows, strict=True))
        return [(part, is_seen) for part, is_seen in ((rows[:at], True), (rows[at:], False)) if part]


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
    folded: Sequence[Plot] = ()  # plots that are shown on demand
    folded_title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A chapter of the page."""

    name: str  # its id in the page, and its name in the navigation
    title: str
    figures: Sequence[Figure]
    links: Sequence[tuple[str, Sequence[tuple[str, str]]]] = ()  # lines of links to anchors: (heading, (text, anchor))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A whole report."""

    title: str
    kind: str  # above the title
    findings: Sequence[str]  # the sentences that the page begins with
    sections: Sequence[Section]
    facts: Sequence[tuple[str, str]] = ()
    warnings: Sequence[str] = ()
    definitions: Sequence[tuple[str, str]] = ()  # words that the page uses, with their meaning
    footer: Sequence[tuple[str, str]] = ()  # facts for those who want to know more
    generated: str | None = None  # the warning, if data is generated; it marks every figure
    made: str = (
        "Made by music-benchmark from results.* of the published music.duckdb. Intervals are 95 % bootstrap intervals "
        "over test rows."
    )


def render(page: Page) -> str:
    """Returns the page as HTML."""
    css = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))  # noqa: S704 - a file of ours
    return _environment().get_template("report.html").render(page=page, css=css, shapes=sparklines.shapes())


def percent(share: float | None, digits: int = 0) -> str:
    """Returns a share, 0 to 1, in percent; empty for None."""
    return "" if share is None else f"{100 * share:.{digits}f}\u00a0%"


def duration(seconds: float | None) -> str:
    """Returns a duration as people read it, such as 0.4 s, 12 s, 3 min 20 s or 1 h 5 min; empty for None."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{seconds:.1f}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    units = ((hours, "h"), (minutes, "min"), (0 if hours else rest, "s"))
    return "\u00a0".join(f"{amount}\u00a0{unit}" for amount, unit in units if amount)


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
