"""Feedback on one track as one self-contained HTML page, laid out like the report of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from tasks.feedback.adviser import Because, Feedback, title
from tasks.feedback.explain import Reasons
from tasks.feedback.what_if import CAUTION, WhatIf
from tasks.feedback.wording import (
    ALIKE,
    along,
    cautions,
    focus,
    listed,
    model_of,
    named,
    order,
    own,
    predicted_genre,
    predicted_popularity,
    shown,
    which_model,
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
        facts=_facts(feedback),
        findings=_findings(feedback),
        sections=sections,
        warnings=cautions(feedback),
        generated=GENERATED if feedback.is_generated else None,
        made="Made by music-benchmark. Predictions, intervals and probabilities: as flows.predict makes them.",
    )


def _facts(feedback: Feedback) -> list[tuple[str, str]]:
    facts = [("track", f"id {feedback.prediction['track_id']} of {shortened(feedback.source)}")]
    if text := listed(feedback):
        facts.append(("listed", shortened(text)))
    facts.append(("known tracks", f"{feedback.n_known:,} of {shortened(feedback.known_source)}"))
    runs: dict[str, None] = {}
    for task, one in sorted(feedback.because.items()):
        models = {f"predicts {task}": one.champion.candidate}
        if one.explainer and not one.is_champion:
            models[f"explained for {task}"] = one.explainer.candidate
        facts += [(what, model_of(candidate)) for what, candidate in models.items()]
        runs |= {candidate.run_id: None for candidate in models.values()}
    return [*facts, ("models of run", ", ".join(runs))]


def _findings(feedback: Feedback) -> list[str]:
    found = []
    if "genre" in feedback.because:
        found.append(f"Genre: {shortened(predicted_genre(feedback))}.")
    if "popularity" in feedback.because:
        found.append(f"Popularity: {predicted_popularity(feedback)}.")
    if feedback.similar:
        first = feedback.similar[0]
        found.append(f"Most like it: {shortened(title(first['artist_name'], first['track_name']))}.")
    return found


def _popularity(feedback: Feedback, because: Because) -> Figure:
    """Returns the figure that leads from the model's average popularity to its prediction, feature by feature."""
    heading = "Popularity"
    if because.reasons is None or because.explainer is None:
        return Figure(name="why-popularity", title=heading, finding=which_model(because))
    reasons = because.reasons
    pushes, places = reasons.contributions[0], order(reasons, 0)
    ends = reasons.average[0] + np.cumsum(pushes[places])
    starts = [reasons.average[0], *ends[:-1]]
    scale = Scale.over([*starts, *ends])
    rows: list[list[HtmlCell]] = [
        ["(average)", f"{reasons.average[0]:.1f}", sparklines.dots(scale, [Mark(starts[0], series=4)]), ""]
    ]
    for at, start, end in zip(places, starts, ends, strict=True):
        name = reasons.features[at]
        bar = sparklines.span(scale, min(start, end), max(start, end), UP if end >= start else DOWN)
        rows.append([named(name), f"{pushes[at]:+.2f}", bar, own(feedback, name)])
    rows.append(["(prediction)", f"{reasons.outputs[0]:.1f}", sparklines.dots(scale, [Mark(ends[-1], series=4)]), ""])
    model = because.explainer.candidate.cell.model
    finding = (
        f"{which_model(because)}\n"
        f"{model} predicts {reasons.outputs[0]:.1f}: its average, {reasons.average[0]:.1f}, and what each feature adds "
        f"to it or takes away; most of all {_most(reasons, places, 0)}."
    )
    if not because.is_champion:
        finding += f" The prediction itself is {feedback.prediction['popularity']:.1f}."
    return Figure(
        name="why-popularity",
        title=heading,
        finding=finding,
        tables=[
            HtmlTable(
                caption="From the average to the prediction, in points of popularity",
                columns=[
                    *texts("feature"),
                    *numbers("points"),
                    Column("from the average on", "plot"),
                    *texts("this track"),
                ],
                rows=rows,
                axis=sparklines.axis(scale, sparklines.plain),
                legend=[(sparklines.key_bar(UP), "up"), (sparklines.key_bar(DOWN), "down")],
                shown=20,
            )
        ],
        note="Exact Shapley values of the model's trees, not samples of them: average and points add up to the "
        "prediction. They say how the model came to it, not what caused anything.",
    )


def _genre(feedback: Feedback, because: Because) -> list[Figure]:
    """Returns the figures of what speaks for and against the most probable genres."""
    heading = "Genre"
    if because.reasons is None or because.explainer is None:
        return [Figure(name="why-genre", title=heading, finding=which_model(because))]
    reasons = because.reasons
    shares = reasons.probabilities
    ranked = [int(at) for at in np.argsort(-shares, kind="stable")]
    first = focus(feedback, reasons)
    others = [at for at in ranked if at != first][:2]
    pushes, places = reasons.contributions[first], order(reasons, first)
    scale = Scale.over(pushes, zero=True)
    genre = shortened(reasons.genres[first])
    rows: list[list[HtmlCell]] = [
        [
            named(reasons.features[at]),
            f"{pushes[at]:+.2f}",
            sparklines.span(scale, min(0.0, pushes[at]), max(0.0, pushes[at]), UP if pushes[at] >= 0 else DOWN),
            own(feedback, reasons.features[at]),
            *(f"{reasons.contributions[other, at]:+.2f}" for other in others),
        ]
        for at in places
    ]
    columns = [first, *others]
    ends: list[tuple[str, Sequence[str]]] = [
        ("(average)", [f"{reasons.average[at]:+.2f}" for at in columns]),
        ("(score)", [f"{reasons.outputs[at]:+.2f}" for at in columns]),
        ("(probability)", [f"{shares[at]:.2f}" for at in columns]),
    ]
    rows += [[name, figures[0], "", "", *figures[1:]] for name, figures in ends]
    model = because.explainer.candidate.cell.model
    finding = (
        f"{which_model(because)}\n"
        f"{model} gives {genre} a probability of {shares[first]:.2f} (not calibrated); most is made of "
        f"{_most(reasons, places, first)}."
    )
    if not because.is_champion:
        finding += f" The prediction itself: {shortened(predicted_genre(feedback))}."
    why = Figure(
        name="why-genre",
        title=f"{heading}: {genre}",
        finding=finding,
        tables=[
            HtmlTable(
                caption="What speaks for a genre and against it, in log-odds",
                columns=[*texts("feature"), *numbers(genre), Column(f"for {genre}", "plot"), *texts("this track"),
                         *numbers(*(shortened(reasons.genres[at]) for at in others))],
                rows=rows,
                axis=sparklines.axis(scale, sparklines.signed),
                legend=[(sparklines.key_bar(UP), "for"), (sparklines.key_bar(DOWN), "against")],
                shown=20,
            )
        ],
        note="Exact Shapley values of the model's trees. A genre's score is the logarithm of its probability less the "
        "mean of all genres' logarithms; average and log-odds add up to it. 0.7 more than another genre gets "
        "doubles the odds against that.",
    )  # fmt: skip
    return [why, _all_genres(reasons, ranked[:MOST_GENRES])]


def _all_genres(reasons: Reasons, ranked: list[int]) -> Figure:
    names = [shortened(reasons.genres[at]) for at in ranked]
    values = [list(map(float, reasons.contributions[at])) for at in ranked]
    most = max((abs(value) for row in values for value in row), default=1.0) or 1.0
    alt = f"Contributions of {len(reasons.features)} features to the scores of {len(names)} genres."
    drawn = plots.matrix(
        names, [named(name) for name in reasons.features], values,
        lambda value: f"{value:+.1f}", lambda value: (abs(value) / most) ** 0.5, alt, signed=True, least=0.05,
    )  # fmt: skip
    return Figure(
        name="genres",
        title="Every genre",
        finding="What each feature adds to a genre's score, the most probable genre first.",
        plots=[Plot("", drawn)],
        tables=[
            HtmlTable(
                caption="Log-odds by genre and feature",
                columns=[*texts("genre"), *numbers("probability", "score", *map(named, reasons.features))],
                rows=[
                    [name, f"{reasons.probabilities[at]:.3f}", f"{reasons.outputs[at]:+.2f}",
                     *(f"{value:+.2f}" for value in row)]
                    for at, name, row in zip(ranked, names, values, strict=True)
                ],
                shown=0,
            )
        ],
        size="whole",
    )  # fmt: skip


def _most(reasons: Reasons, places: Sequence[int], output: int) -> str:
    return ", ".join(f"{named(reasons.features[at])} ({reasons.contributions[output, at]:+.1f})" for at in places[:3])


def _what_if(feedback: Feedback) -> Figure:
    """Returns the figure of the predicted popularity along each feature's range."""
    y = Scale.over(points for one in feedback.what_if for points in one.popularity)
    ranked = sorted(feedback.what_if, key=lambda one: -one.span)
    drawn = [Plot(named(one.feature), _curve(one, y), along(one)) for one in ranked if one.feature not in STEPPED]
    steps: list[list[HtmlCell]] = [
        [
            f"{named(one.feature)} {shown(one.feature, value)}",
            "this track" if at == one.at else "",
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
                columns=[*texts("feature", "this track"), *numbers("lowest", "at", "highest", "at", "difference")],
                rows=[
                    [named(one.feature), own(feedback, one.feature), f"{one.popularity[one.lowest]:.1f}",
                     shown(one.feature, one.values[one.lowest]), f"{one.popularity[one.highest]:.1f}",
                     shown(one.feature, one.values[one.highest]), f"{one.span:.1f}"]
                    for one in ranked
                ],
            ),
            HtmlTable(
                caption="Key and mode",
                columns=[*texts("if it were", ""), *numbers("popularity"), Column("popularity", "plot")],
                rows=steps,
                axis=sparklines.axis(y, sparklines.plain),
                shown=0,
            ),
        ],
        note=f"Predictions of {model_of(feedback.because['popularity'].champion.candidate)} for this track with one "
        "feature changed, from the 1st to the 99th percentile of its training rows: beyond, there is hardly any data.",
    )  # fmt: skip


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
    scale = Scale.over([row["distance"] for row in rows], zero=True)
    return Figure(
        name="similar",
        title="The known tracks nearest to it",
        finding=f"Of {feedback.n_known:,} rows of {shortened(feedback.known_source)}. {ALIKE}",
        tables=[
            HtmlTable(
                caption="Nearest first",
                columns=[Column("track", "wrap"), *texts("genre"), *numbers("popularity", "distance"),
                         Column("distance", "plot")],
                rows=[
                    [
                        shortened(title(row["artist_name"], row["track_name"])),
                        shortened(row["music_genre"] or ""),
                        f"{row['popularity']:.0f}" if row["popularity"] is not None else "",
                        f"{row['distance']:.2f}",
                        sparklines.span(scale, 0.0, row["distance"]),
                    ]
                    for row in rows
                ],
                axis=sparklines.axis(scale, sparklines.plain),
                shown=20,
            )
        ],
        note="The distance is in standard deviations of the training tracks. 0 is a track with the very same features.",
    )  # fmt: skip
