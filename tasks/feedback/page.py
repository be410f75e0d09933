"""Feedback on one track as one self-contained HTML page, laid out like the report of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup

from tasks.feedback.adviser import Because, Feedback, title
from tasks.feedback.explain import Reasons
from tasks.feedback.what_if import CAUTION, WhatIf
from tasks.feedback.wording import (
    ALIKE,
    INSTEAD,
    ODDS,
    along,
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
from tasks.reporting import plots, sparklines
from tasks.reporting.page import (
    Column,
    Figure,
    HtmlCell,
    HtmlTable,
    Page,
    Plot,
    Section,
    numbers,
    render,
    shortened,
    texts,
)
from tasks.reporting.plots import Curve
from tasks.reporting.sparklines import Mark, Scale
from tasks.specs import GENERATED

STEPPED = ("key_code", "mode_code")  # features of a few values: a row each, no curve
MOST_GENRES = 12  # a table has no room for more
UP, DOWN = 0, 1  # series
DOUBLING = math.log(2)  # a contribution to the logarithm of the odds that doubles them
LEAST = 0.05  # a smaller contribution to the logarithm of the odds is a factor of 1.0


def html(feedback: Feedback) -> str:
    """Returns the page as HTML."""
    return render(page(feedback))


def page(feedback: Feedback) -> Page:
    """Returns the page's content: facts, findings, figures and tables."""
    because = feedback.because
    sections = [
        Section(
            name="why",
            title="What pushes the prediction",
            figures=[
                *([_popularity(feedback, because["popularity"])] if "popularity" in because else []),
                *(_genre(feedback, because["genre"]) if "genre" in because else []),
            ],
        ),
        *([Section(name="what-if", title="What if", figures=[_what_if(feedback)])] if feedback.what_if else []),
        Section(name="similar", title="Tracks like this", figures=[_similar(feedback)]),
    ]
    return Page(
        title=shortened(feedback.title),
        kind="Feedback on one track",
        findings=_findings(feedback),
        sections=sections,
        warnings=cautions(feedback),
        footer=_facts(feedback),
        generated=GENERATED if feedback.is_generated else None,
        made="Made by music-benchmark. Predictions, intervals and probabilities: as flows.predict makes them.",
    )


def _facts(feedback: Feedback) -> list[tuple[str, str]]:
    facts = [("track", f"id {feedback.prediction['track_id']} of {shortened(feedback.source)}")]
    if text := listed(feedback):
        facts.append(("listed", shortened(text)))
    facts.append(("known tracks", f"{feedback.n_known:,} of {shortened(feedback.known_source)}"))
    return facts + models(feedback)


def _findings(feedback: Feedback) -> list[str]:
    found = []
    if "genre" in feedback.because:
        found.append(f"Genre: {shortened(predicted_genre(feedback))}.")
    if "popularity" in feedback.because:
        found.append(f"Popularity: {predicted_popularity(feedback)}.")
    if text := changes_most(feedback):
        found.append(text)
    return found


def _popularity(feedback: Feedback, because: Because) -> Figure:
    """Returns the figure that leads from the model's average popularity to its prediction, feature by feature."""
    heading = "Popularity"
    if because.reasons is None or because.explainer is None:
        return Figure(name="why-popularity", title=heading, finding=unexplained(because))
    reasons = because.reasons
    places = order(reasons, 0)
    names = [named(reasons.features[at]) for at in places]
    values = [own(feedback, reasons.features[at]) for at in places]
    pushes = [float(reasons.contributions[0, at]) for at in places]
    if away := last_step(feedback, reasons):
        names.append("last step")
        values.append("")
        pushes.append(away)
    average = float(reasons.average[0])
    ends = [float(end) for end in average + np.cumsum(pushes)]
    starts = [average, *ends[:-1]]
    scale = Scale.over([*starts, *ends])
    rows: list[list[HtmlCell]] = [["average", f"{average:.1f}", sparklines.dots(scale, [Mark(average, series=4)]), ""]]
    for name, value, push, start, end in zip(names, values, pushes, starts, ends, strict=True):
        bar = sparklines.span(scale, min(start, end), max(start, end), UP if end >= start else DOWN)
        rows.append([name, f"{push:+z.2f}", bar, value])
    popularity = feedback.prediction["popularity"]
    rows.append(["this track", f"{popularity:.1f}", sparklines.dots(scale, [Mark(popularity, series=4)]), ""])
    return Figure(
        name="why-popularity",
        title=heading,
        finding=f"The average is {average:.1f}. The features of this track lead to {popularity:.1f}, most of all "
        f"{_most(reasons, places, 0, '{:+z.1f}'.format)}.\n{difference(feedback, because)}".strip(),
        tables=[
            HtmlTable(
                caption="From the average to this track, in points of popularity",
                columns=[*texts("feature"), *numbers("points"), Column("", "plot"), Column("its value", "wrap")],
                rows=rows,
                axis=sparklines.axis(scale, sparklines.plain),
                legend=[(sparklines.key_bar(UP), "up"), (sparklines.key_bar(DOWN), "down")],
                shown=20,
            )
        ],
        note="The points say how the model came to its prediction, not what caused anything. They are exact Shapley "
        "values of the model's trees: the average and all points add up to the prediction.",
    )


def _genre(feedback: Feedback, because: Because) -> list[Figure]:
    """Returns the figures of what speaks for and against the most probable genres."""
    heading = "Genre"
    if because.reasons is None or because.explainer is None:
        return [Figure(name="why-genre", title=heading, finding=unexplained(because))]
    reasons = because.reasons
    ranked = [int(at) for at in np.argsort(-reasons.outputs, kind="stable")]
    first = focus(feedback, reasons)
    pushes, places = reasons.contributions[first], order(reasons, first)
    doublings = pushes / DOUBLING
    scale = Scale.over(doublings, zero=True)
    genre = shortened(reasons.genres[first])
    rows: list[list[HtmlCell]] = [
        [
            named(reasons.features[at]),
            factor(pushes[at]),
            sparklines.span(scale, min(0.0, doublings[at]), max(0.0, doublings[at]), UP if pushes[at] >= 0 else DOWN),
            own(feedback, reasons.features[at]),
        ]
        for at in places
    ]
    why = Figure(
        name="why-genre",
        title=f"{heading}: {genre}",
        finding=f"What does most to the odds of {genre}: {_most(reasons, places, first, factor)}.\n{ODDS}",
        tables=[
            HtmlTable(
                caption=f"What speaks for {genre} and against it",
                columns=[*texts("feature"), *numbers("odds"), Column("", "plot"), Column("its value", "wrap")],
                rows=rows,
                axis=sparklines.axis(scale, lambda doubled: factor(doubled * DOUBLING)),
                legend=[(sparklines.key_bar(UP), "for"), (sparklines.key_bar(DOWN), "against")],
                shown=20,
            )
        ],
        note="Exact Shapley values of the model's trees; the factors multiply."
        + ("" if because.is_champion else f" {INSTEAD}"),
    )
    return [why, _all_genres(reasons, ranked[:MOST_GENRES])]


def _all_genres(reasons: Reasons, ranked: list[int]) -> Figure:
    names = [shortened(reasons.genres[at]) for at in ranked]
    values = [list(map(float, reasons.contributions[at])) for at in ranked]
    most = max((abs(value) for row in values for value in row), default=1.0) or 1.0
    alt = f"Factors of {len(reasons.features)} features for the odds of {len(names)} genres."
    drawn = plots.matrix(
        names, [named(name) for name in reasons.features], values,
        factor, lambda value: (abs(value) / most) ** 0.5, alt, signed=True, least=LEAST,
    )  # fmt: skip
    return Figure(
        name="genres",
        title="Every genre",
        finding="What each feature does to the odds of a genre, the most probable genre first.",
        plots=[Plot("", drawn)],
        tables=[
            HtmlTable(
                caption="What speaks most for each genre and against it",
                columns=[Column("genre", "wrap"), Column("for", "wrap"), Column("against", "wrap")],
                rows=[
                    [name, *(_strongest(reasons, at, sign) for sign in (1, -1))]
                    for at, name in zip(ranked, names, strict=True)
                ],
                shown=MOST_GENRES,
            )
        ],
        size="whole",
    )  # fmt: skip


def _strongest(reasons: Reasons, output: int, sign: int) -> str:
    """Returns the two features that push a genre most in one direction. Args: sign: 1 for, -1 against."""
    pushes = reasons.contributions[output]
    places = [at for at in order(reasons, output) if sign * pushes[at] >= LEAST][:2]
    return ", ".join(f"{named(reasons.features[at])} {factor(pushes[at])}" for at in places)


def _most(reasons: Reasons, places: Sequence[int], output: int, shown_as: Callable[[float], str]) -> str:
    pushes = reasons.contributions[output]
    return ", ".join(f"{named(reasons.features[at])} ({shown_as(float(pushes[at]))})" for at in places[:3])


def _what_if(feedback: Feedback) -> Figure:
    """Returns the figure of the predicted popularity along each feature's range."""
    y = Scale.over(points for one in feedback.what_if for points in one.popularity)
    ranked = sorted(feedback.what_if, key=lambda one: -one.span)
    drawn = [Plot(named(one.feature), _curve(one, y), along(one)) for one in ranked if one.feature not in STEPPED]
    steps: list[list[HtmlCell]] = [
        [
            f"{named(one.feature)} {shown(one.feature, value)}{' (this track)' if at == one.at else ''}",
            f"{points:.1f}",
            sparklines.dots(y, [Mark(points, series=1 if at == one.at else 0)], feedback.prediction["popularity"]),
        ]
        for one in feedback.what_if
        if one.feature in STEPPED
        for at, (value, points) in enumerate(zip(one.values, one.popularity, strict=True))
    ]
    return Figure(
        name="what-if",
        title="Predicted popularity if one feature were different",
        finding=CAUTION,
        plots=drawn,
        legend=[(sparklines.dash(0), "predicted popularity"), (plots.dot(1), "this track")],
        tables=[
            HtmlTable(
                caption="Lowest and highest along each feature",
                columns=[*texts("feature"), *numbers("span"),
                         *(Column(name, "wrap") for name in ("lowest", "highest", "its value"))],
                rows=[
                    [named(one.feature), f"{one.span:.1f}", _point(one, one.lowest), _point(one, one.highest),
                     own(feedback, one.feature)]
                    for one in ranked
                ],
            ),
            HtmlTable(
                caption="Key and mode",
                columns=[Column("if it were", "wrap"), *numbers("popularity"), Column("", "plot")],
                rows=steps,
                axis=sparklines.axis(y, sparklines.plain),
                shown=0,
            ),
        ],
        note="Predictions for this track with one feature changed, from the 1st to the 99th percentile of the training "
        "rows: beyond, there is hardly any data.",
    )  # fmt: skip


def _point(one: WhatIf, at: int) -> str:
    return f"{one.popularity[at]:.1f} at {shown(one.feature, one.values[at])}"


def _curve(one: WhatIf, y: Scale) -> Markup:
    unit = {"duration_ms": 60_000.0}.get(one.feature, 1.0)
    label = {"duration_ms": "minutes", "tempo": "beats/min", "loudness": "dB"}.get(one.feature, one.feature)
    points = [(value / unit, popularity) for value, popularity in zip(one.values, one.popularity, strict=True)]
    here = Curve([points[one.at]], 1, [1.0])
    alt = f"Predicted popularity along {named(one.feature)}: {along(one)}; this track {points[one.at][1]:.1f}."
    return plots.curves(
        [Curve(points), here], Scale.over([x for x, _ in points]), y, alt, x_label=label, y_label="popularity"
    )


def _similar(feedback: Feedback) -> Figure:
    rows = feedback.similar
    return Figure(
        name="similar",
        title="The known tracks nearest to it",
        finding=f"Of {feedback.n_known:,} rows of {shortened(feedback.known_source)}. {ALIKE}",
        tables=[
            HtmlTable(
                caption="Nearest first",
                columns=[Column("track", "wrap"), Column("genre", "wrap"), *numbers("popularity", "distance")],
                rows=[
                    [
                        shortened(title(row["artist_name"], row["track_name"])),
                        shortened(row["music_genre"] or ""),
                        f"{row['popularity']:.0f}" if row["popularity"] is not None else "",
                        f"{row['distance']:.2f}",
                    ]
                    for row in rows
                ],
                shown=20,
            )
        ],
        note="The distance is in standard deviations of the training tracks. 0 is a track with the very same features.",
    )  # fmt: skip
