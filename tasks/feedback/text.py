"""Feedback and nearest tracks as text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.errors import one_line
from tasks.feedback.adviser import Because, Feedback, title
from tasks.feedback.what_if import CAUTION
from tasks.feedback.wording import (
    ALIKE,
    ODDS,
    cautions,
    changes_most,
    difference,
    factor,
    focus,
    last_step,
    listed,
    models,
    named,
    order,
    own,
    predicted_genre,
    predicted_popularity,
    shown,
    unexplained,
)
from tasks.reporting import bars
from tasks.specs import GENERATED

MOST = 6  # features in a summary
LONGEST = 60  # characters of a title


def print_feedback(feedback: Feedback) -> None:
    """Prints a short summary of the feedback; the page has all of it."""
    console = _console()
    if feedback.is_generated:
        console.print(Text(GENERATED, style="bold yellow"))
    console.print(Text(feedback.title, style="bold"))
    row = feedback.because
    for line in (
        listed(feedback),
        f"Genre: {predicted_genre(feedback)}" if "genre" in row else None,
        f"Popularity: {predicted_popularity(feedback)}" if "popularity" in row else None,
        changes_most(feedback),
        *cautions(feedback),
    ):
        if line:
            console.print(Text(one_line(line)))
    for task in ("popularity", "genre"):
        if task in row:
            _pushes(console, feedback, task, row[task])
    _what_if(console, feedback)
    print_nearest(feedback.similar[:5], "Tracks like this", console)
    for what, model in models(feedback):
        console.print(Text(one_line(f"{what}: {model}"), style="dim"))


def print_nearest(rows: Sequence[dict[str, Any]], heading: str, console: Console | None = None) -> None:
    """Prints the nearest known tracks. Args: rows: of sql/predict/nearest.sql."""
    console = console or _console()
    table = _table(["track", "genre"], ["popularity", "distance"])
    for row in rows:
        name = title(row["artist_name"], row["track_name"])
        popularity = "" if row["popularity"] is None else f"{row['popularity']:.0f}"
        cells = [_cut(name), _cut(one_line(row["music_genre"] or "")), popularity, f"{row['distance']:.3f}"]
        table.add_row(*(Text(cell) for cell in cells))
    _print(console, heading, table, ALIKE)


def _pushes(console: Console, feedback: Feedback, task: str, because: Because) -> None:
    """Prints the features that push a prediction most."""
    if because.reasons is None:
        console.print(Text(f"\n{task.capitalize()}: {unexplained(because)}"))
        return
    reasons = because.reasons
    output = focus(feedback, reasons) if task == "genre" else 0
    pushes, places = reasons.contributions[output], order(reasons, output)
    heading = f"What pushes its popularity, from {reasons.average[0]:.1f} on average, in points"
    note, shown_as = difference(feedback, because), _points
    if task == "genre":
        heading = f"What speaks for and against {one_line(reasons.genres[output])}: what is done to its odds"
        note, shown_as = ODDS, factor
    table = _table(["feature", "this track"], ["push"])
    table.add_column("down", justify="right", no_wrap=True)
    table.add_column("up", no_wrap=True)
    most = max(abs(pushes))
    for at in places[:MOST]:
        bar = bars.bar(abs(pushes[at]), most, console.encoding)
        sides = (bar, "") if pushes[at] < 0 else ("", bar)
        name = reasons.features[at]
        table.add_row(named(name), own(feedback, name), shown_as(pushes[at]), *sides)
    if places[MOST:]:
        rest = sum(pushes[at] for at in places[MOST:])
        table.add_row(f"{len(places) - MOST} others", "", shown_as(rest), "", "", style="dim")
    if task == "popularity" and (away := last_step(feedback, reasons)):
        table.add_row("last step", "", shown_as(away), "", "", style="dim")
    _print(console, heading, table, note)


def _points(push: float) -> str:
    return f"{push:+z.2f}"


def _what_if(console: Console, feedback: Feedback) -> None:
    ranked = sorted(feedback.what_if, key=lambda one: -one.span)[:MOST]
    if not ranked:
        return
    table = _table(["feature", "this track"], ["lowest", "at", "highest", "at", ""])
    for one in ranked:
        table.add_row(
            named(one.feature),
            own(feedback, one.feature),
            f"{one.popularity[one.lowest]:.1f}",
            shown(one.feature, one.values[one.lowest]),
            f"{one.popularity[one.highest]:.1f}",
            shown(one.feature, one.values[one.highest]),
            bars.bar(one.span, ranked[0].span, console.encoding),
        )
    _print(console, "What if: its predicted popularity, if one feature were different", table, CAUTION)


def _print(console: Console, heading: str, table: Table, note: str) -> None:
    """Prints a table with a heading above and a note below; all of them may hold untrusted text."""
    console.print(Text(f"\n{heading}", style="italic"))
    console.print(table)
    if note:
        console.print(Text(note, style="dim"))


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=120)


def _table(names: Sequence[str], figures: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name)
    for name in figures:
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    return table


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
