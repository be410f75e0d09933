"""The report's figures on the models' behaviour: confusion, importance, calibration and training history."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby

from tasks.reporting import plots, sparklines
from tasks.reporting.figures.results import NOTHING, Results
from tasks.reporting.page import Column, Figure, HtmlTable, Plot, percent, shortened
from tasks.reporting.plots import Curve
from tasks.reporting.sparklines import Mark, Scale
from tasks.results import run_queries
from tasks.results.run_queries import LEADERBOARDS, Row, number

CALIBRATED = 0.02  # a stated probability that is off by no more than this on average is about right


def confusion(results: Results) -> Figure:
    """Returns the figure on which genres the best model of each protocol mistakes for which."""
    drawn, tables, findings = [], [], []
    for protocol in results.of_task("genre"):
        best, rows = results.of_best("confusion", protocol, "genre")
        counts = {(row["true_genre"], row["predicted_genre"]): row["n"] for row in rows}
        genres = sorted({genre for pair in counts for genre in pair})
        true = {genre: sum(counts.get((genre, other), 0) for other in genres) for genre in genres}
        taken = {genre: sum(counts.get((other, genre), 0) for other in genres) for genre in genres}
        shares = [[counts.get((a, b), 0) / true[a] if true[a] else None for b in genres] for a in genres]
        names = [shortened(genre) for genre in genres]
        recall = {genre: counts.get((genre, genre), 0) / true[genre] for genre in genres if true[genre]}
        mixed = sorted(((n / true[a], a, b) for (a, b), n in counts.items() if a != b and true[a]), reverse=True)
        easy, hard = max(recall, key=recall.__getitem__), min(recall, key=recall.__getitem__)
        finding = (
            f"{protocol}, {best['model']}: {shortened(easy)} is recognised best "
            f"({percent(recall[easy])} of its tracks), {shortened(hard)} worst ({percent(recall[hard])})."
        )
        if mixed:
            finding += (
                f" Most often mistaken: {shortened(mixed[0][1])} for {shortened(mixed[0][2])} ({percent(mixed[0][0])})."
            )
        findings.append(finding)
        svg = plots.matrix(
            names, names, shares, lambda share: f"{100 * share:.0f}", lambda share: min(1.0, share**0.7), finding,
            least=0.005,
        )  # fmt: skip
        drawn.append(Plot(f"{protocol}: {best['model']} on {best['feature_set']}", svg))
        tables.append(
            HtmlTable(
                caption=f"Each genre, protocol {protocol}",
                columns=[Column("genre", "wrap"), Column("recognised", "plot"),
                         *(Column(name, "number") for name in ("recall", "precision", "F1", "tracks")),
                         Column("most often taken for", "wrap")],
                rows=[
                    [
                        shortened(genre),
                        sparklines.span(Scale(0, 1), 0, recall.get(genre, 0.0)),
                        number(recall.get(genre), 2),
                        number(counts.get((genre, genre), 0) / taken[genre] if taken[genre] else None, 2),
                        number(2 * counts.get((genre, genre), 0) / ((true[genre] + taken[genre]) or 1), 2),
                        f"{true[genre]:,}",
                        next((f"{shortened(b)} ({percent(n)})" for n, a, b in mixed if a == genre and n), ""),
                    ]
                    for genre in sorted(genres, key=lambda genre: -recall.get(genre, 0.0))
                ],
                shown=12 if len(results.of_task("genre")) == 1 else 0,
            )
        )  # fmt: skip
    return Figure(
        name="confusion",
        title="Which genres are taken for which",
        finding="\n".join(findings) or NOTHING,
        plots=drawn,
        tables=tables,
        size="large",
        note="Rows: true genre; columns: predicted; percent of the row's tracks. Best model of each protocol.",
    )


def importance(results: Results) -> list[Figure]:
    """Returns a figure per task on the importance of the features."""
    found = results.rows("importance")
    figures = []
    for task in LEADERBOARDS:
        boards = results.of_task(task)
        shares = {
            (row["protocol"], row["model"], row["feature_name"]): row["share"] for row in found if row["task"] == task
        }
        methods = {row["model"]: row["method"] for row in found if row["task"] == task}
        protocols = [name for name in boards if any(key[0] == name for key in shares)]
        title = f"What {task} is predicted from"
        if not protocols:
            figures.append(Figure(name=f"importance-{task}", title=title, finding="No model on feature set all."))
            continue
        first = protocols[0]
        model = next(row["model"] for row in boards[first] if any(key[:2] == (first, row["model"]) for key in shares))
        features = sorted(
            {key[2] for key in shares if key[:2] == (first, model)}, key=lambda name: -shares[first, model, name]
        )
        scale = Scale.over(shares.values(), zero=True)
        by_protocol = [name for name in protocols if (name, model, features[0]) in shares]
        table = HtmlTable(
            caption=f"Share of {model}'s importance ({methods[model]}) by protocol",
            columns=[Column("feature"), Column("share of importance, %", "plot"),
                     *(Column(name, "number") for name in by_protocol)],
            rows=[
                [
                    feature,
                    sparklines.dots(
                        scale, [Mark(shares[name, model, feature], series=at) for at, name in enumerate(by_protocol)]
                    ),
                    *(percent(shares[name, model, feature], 1) for name in by_protocol),
                ]
                for feature in features
            ],
            axis=sparklines.axis(scale, lambda share: f"{100 * share:.0f}"),
            legend=[(sparklines.key(at), name) for at, name in enumerate(by_protocol)],
            shown=20,
        )  # fmt: skip
        models = list(
            dict.fromkeys(row["model"] for row in boards[first] if (first, row["model"], features[0]) in shares)
        )
        values = [[shares.get((first, name, feature)) for name in models] for feature in features]
        top = ", ".join(f"{name} ({percent(shares[first, model, name])})" for name in features[:3])
        alt = f"Shares of importance of {len(features)} features in {len(models)} models, protocol {first}."
        svg = plots.matrix(features, models, values, lambda v: f"{100 * v:.0f}", lambda v: min(1.0, v / 0.6), alt)
        finding = f"{model}, the best of protocol {first}, looks most at {top}."
        if len(by_protocol) > 1:
            last = by_protocol[-1]
            finding += moved_in_words(
                {name: (shares[first, model, name], shares[last, model, name]) for name in features}, first, last
            )
        figures.append(
            Figure(
                name=f"importance-{task}",
                title=title,
                finding=finding,
                plots=[Plot(f"All models, protocol {first}, percent of each", svg)],
                tables=[table],
                size="whole",
                note="; ".join(f"{name}: {methods[name]}" for name in models)
                + ". These are not the same thing: compare ranks, not shares.",
            )
        )
    return figures


def moved_in_words(shares: dict[str, tuple[float, float]], first: str, last: str) -> str:
    """Returns which feature's share differs most between two protocols; empty if no difference can be seen."""
    moved = max(shares, key=lambda name: abs(shares[name][0] - shares[name][1]))
    before, after = (percent(share, 1) for share in shares[moved])
    if before == after:
        return ""
    return f" The largest change with the protocol: {moved}, {before} in {first}, {after} in {last}."


def predicted_popularity(results: Results) -> Figure:
    """Returns the figure of predicted against true popularity of the best model of each protocol."""
    drawn, findings = [], []
    scale = Scale(0, 100)
    for protocol in results.of_task("popularity"):
        best, rows = results.of_best("popularity", protocol, "popularity")
        cells = [(row["true_popularity"], row["predicted_popularity"], row["n"]) for row in rows]
        means = []
        for true, group in groupby(rows, key=lambda row: row["true_popularity"]):
            squares = list(group)
            n = sum(row["n"] for row in squares)
            if n >= 5:
                means.append((true + 2.5, sum(row["sum_predicted"] for row in squares) / n))
        finding = (
            f"{protocol}, {best['model']}: RMSE {best['rmse']:.2f} points, r2 {number(best['r2'], 2) or 'not defined'}."
        )
        if means:
            (low, at_low), (high, at_high) = means[0], means[-1]
            finding += (
                f" Tracks of true popularity {low - 2.5:.0f} to {low + 2.5:.0f} are predicted {at_low:.0f} on average, "
                f"those of {high - 2.5:.0f} to {high + 2.5:.0f} {at_high:.0f}."
            )
        findings.append(finding)
        svg = plots.density(
            cells, 5, scale, scale, means, finding, x_label="true popularity", y_label="predicted popularity"
        )
        drawn.append(Plot(f"{protocol}: {best['model']} on {best['feature_set']}", svg))
    return Figure(
        name="predicted-popularity",
        title="Predicted against true popularity",
        finding="\n".join(findings) or NOTHING,
        plots=drawn,
        size="large",
        note="The further a square's colour is from the background, the more test tracks it holds. Dashed orange: the "
        "mean prediction; dotted grey: perfect.",
    )


def reliability(results: Results) -> Figure:
    """Returns the figure on how often the predicted genre is right, by its stated probability."""
    title = "Can its probabilities be trusted?"
    bins: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    protocols = list(results.of_task("genre"))
    for row in results.rows("calibration"):
        if row["protocol"] in protocols:
            bins[row["model"]][row["protocol"]].append(row)
    if not bins:
        return Figure(name="reliability", title=title, finding="No model on feature set all gives probabilities.")
    labels = {"x_label": "stated probability", "y_label": "share right"}
    drawn, errors = [], {}
    for model, by_protocol in bins.items():
        lines, said = [], []
        for protocol in (name for name in protocols if name in by_protocol):
            rows = by_protocol[protocol]
            n, most = sum(row["n"] for row in rows), max(row["n"] for row in rows)
            error = sum(row["n"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / n
            bias = sum(row["n"] * (row["confidence"] - row["accuracy"]) for row in rows) / n
            errors[model, protocol] = error
            said.append(f"{protocol}: {calibrated_in_words(error, bias)}")
            points = [(row["confidence"], row["accuracy"]) for row in rows]
            lines.append(Curve(points, protocols.index(protocol), sizes=[row["n"] / most for row in rows]))
        unit, finding = Scale(0, 1), "; ".join(said) + "."
        svg = plots.curves(lines, unit, unit, f"{model}. {finding}", **labels, diagonal=True, size=(230.0, 200.0))
        drawn.append((min(errors[model, protocol] for protocol in by_protocol), Plot(model, svg, finding)))
    best, worst = min(errors, key=errors.__getitem__), max(errors, key=errors.__getitem__)
    return Figure(
        name="reliability",
        title=title,
        finding=f"Closest to the truth: {best[0]} ({best[1]}), whose stated probability is off by {errors[best]:.3f} "
        f"on average; furthest: {worst[0]} ({worst[1]}), {errors[worst]:.3f}.",
        plots=[plot for _, plot in sorted(drawn, key=lambda pair: pair[0])],
        legend=[(sparklines.dash(at), protocol) for at, protocol in enumerate(protocols)],
        note="On the dotted diagonal, what is said to be 60 % sure is right in 60 % of the test tracks; below it the "
        "model is overconfident. Larger dots: more tracks. Feature set all.",
    )


def calibrated_in_words(error: float, bias: float) -> str:
    """Returns a model's calibration in words.

    Args: error: mean distance between stated probability and share right. bias: the mean of the signed difference.
    """
    if error <= CALIBRATED:
        kind = "about right"
    elif abs(bias) < error / 2:
        kind = "now over-, now underconfident"
    else:
        kind = "overconfident" if bias > 0 else "underconfident"
    return f"{kind}, off by {error:.3f} on average"


def history(results: Results) -> Figure:
    """Returns the figure of the losses of the models that are trained in epochs."""
    nets: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in results.rows("history"):
        nets[row["protocol"], row["model"]].append(row)
    title = "How the nets learnt"
    if not nets:
        return Figure(name="history", title=title, finding="No net was trained on feature set all in this run.")
    drawn = []
    protocols = run_queries.protocols(results.connection, results.run["run_id"])
    ordered = sorted(nets, key=lambda net: (net[1], protocols.index(net[0]) if net[0] in protocols else len(protocols)))
    for protocol, model in ordered:
        rows = nets[protocol, model]
        members = {key: list(group) for key, group in groupby(rows, key=lambda row: row["member"])}
        lines = []
        for column, series in (("loss", 0), ("val_loss", 1)):
            for of_member in members.values():
                points = [(row["epoch"], row[column]) for row in of_member if row[column] is not None]
                lines += [Curve(points, series, faint=len(members) > 1)] if points else []
        last = max(row["epoch"] for row in rows)
        watched = [row for row in rows if row["val_loss"] is not None]
        alt = f"{last} epochs, training loss {rows[0]['loss']:.3f} to {rows[-1]['loss']:.3f}"
        if watched:
            best = min(watched, key=lambda row: row["val_loss"])
            alt += f"; validation loss lowest in epoch {best['epoch']}, {best['val_loss']:.3f}"
        x = Scale(0, last)
        y = Scale.over(value for line in lines for _, value in line.points)
        svg = plots.curves(lines, x, y, f"{model}, {protocol}: {alt}.", x_label="epoch", y_label="loss")
        drawn.append(Plot(f"{model}, {protocol}", svg, f"{alt}."))
    return Figure(
        name="history",
        title=title,
        finding=f"{len(drawn)} nets on feature set all. Validation loss is drawn for those that watch it.",
        plots=drawn,
        legend=[(sparklines.dash(0), "training loss"), (sparklines.dash(1), "validation loss")],
        note="Each net's own loss: those of different nets do not compare. Several lines: nets averaged.",
    )
