"""The report's figures on the models' behaviour: confusion, importance, calibration and training history."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import groupby

from tasks.reporting import plots, sparklines
from tasks.reporting.figures.results import NOTHING, Results
from tasks.reporting.page import Column, Figure, HtmlTable, Plot, numbers, percent, secondary, shortened, texts
from tasks.reporting.plots import Curve
from tasks.reporting.sparklines import Mark, Scale
from tasks.results import run_queries
from tasks.results.run_queries import LEADERBOARDS, Row, number
from tasks.specs import HEADLINES

CALIBRATED = 0.02  # a stated probability that is off by no more than this on average is about right


def confusion(results: Results) -> Figure:
    """Returns the figure on which genres the best model takes for which: drawn for the most honest protocol."""
    drawn, tables, findings = [], [], []
    protocols = results.of_task("genre")
    main = results.main_protocol("genre")
    for protocol in sorted(protocols, key=lambda name: name != main):
        best, rows = results.of_best("confusion", protocol, "genre")
        counts = {(row["true_genre"], row["predicted_genre"]): row["n"] for row in rows}
        genres = sorted({genre for pair in counts for genre in pair})
        true = {genre: sum(counts.get((genre, other), 0) for other in genres) for genre in genres}
        taken = {genre: sum(counts.get((other, genre), 0) for other in genres) for genre in genres}
        recall = {genre: counts.get((genre, genre), 0) / true[genre] for genre in genres if true[genre]}
        mixed = sorted(((n / true[a], a, b) for (a, b), n in counts.items() if a != b and true[a]), reverse=True)
        easy, hard = max(recall, key=recall.__getitem__), min(recall, key=recall.__getitem__)
        finding = (
            f"Under {protocol} {best['model']} recognises {shortened(easy)} best ({percent(recall[easy])} of its "
            f"tracks) and {shortened(hard)} worst ({percent(recall[hard])})."
        )
        if mixed:
            finding += (
                f" It most often takes {shortened(mixed[0][1])} for {shortened(mixed[0][2])} "
                f"({percent(mixed[0][0])} of the tracks of {shortened(mixed[0][1])})."
            )
        findings.append(finding)
        if protocol == main:
            names = [shortened(genre) for genre in genres]
            shares = [[counts.get((a, b), 0) / true[a] if true[a] else None for b in genres] for a in genres]
            svg = plots.matrix(
                names, names, shares, lambda share: f"{100 * share:.0f}", lambda share: min(1.0, share**0.7), finding,
                least=0.005,
            )  # fmt: skip
            drawn.append(Plot(f"{best['model']} on {best['feature_set']}, {protocol}", svg))
        tables.append(
            HtmlTable(
                caption=f"Each genre, protocol {protocol}",
                columns=[Column("genre", "wrap"), *numbers("recall"), Column("recognised", "plot"),
                         *secondary(numbers("precision", "F1", "tracks")), Column("most often taken for", "wrap")],
                rows=[
                    [
                        shortened(genre),
                        number(recall.get(genre), 2),
                        sparklines.span(Scale(0, 1), 0, recall.get(genre, 0.0)),
                        number(counts.get((genre, genre), 0) / taken[genre] if taken[genre] else None, 2),
                        number(2 * counts.get((genre, genre), 0) / ((true[genre] + taken[genre]) or 1), 2),
                        f"{true[genre]:,}",
                        next((f"{shortened(b)} ({percent(n)})" for n, a, b in mixed if a == genre and n), ""),
                    ]
                    for genre in sorted(genres, key=lambda genre: -recall.get(genre, 0.0))
                ],
                sql=rows.sql,
                shown=12 if protocol == main else 0,
            )
        )  # fmt: skip
    return Figure(
        name="confusion",
        title="Which genres are taken for which",
        finding="\n".join(findings) or NOTHING,
        plots=drawn,
        tables=tables,
        size="whole",
        note="Rows: true genre; columns: predicted genre; percent of the row's tracks.",
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
        main = results.main_protocol(task)
        first = main if main in protocols else protocols[0]
        model = next(row["model"] for row in boards[first] if any(key[:2] == (first, row["model"]) for key in shares))
        features = sorted(
            {key[2] for key in shares if key[:2] == (first, model)}, key=lambda name: -shares[first, model, name]
        )
        scale = Scale.over(shares.values(), zero=True)
        by_protocol = [name for name in protocols if (name, model, features[0]) in shares]
        others = [name for name in by_protocol if name != first]
        table = HtmlTable(
            caption=f"Share of {model}'s importance ({methods[model]}) by protocol",
            columns=[Column("feature"), *numbers(first), Column("share of importance, %", "plot"),
                     *secondary(numbers(*others))],
            rows=[
                [
                    feature,
                    percent(shares[first, model, feature], 1),
                    sparklines.dots(
                        scale, [Mark(shares[name, model, feature], series=at) for at, name in enumerate(by_protocol)]
                    ),
                    *(percent(shares[name, model, feature], 1) for name in others),
                ]
                for feature in features
            ],
            sql=found.sql,
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
        finding = f"{model}, the best model under {first} whose importances are known, relies most on {top}."
        if others:
            finding += moved_in_words(
                {name: (shares[others[0], model, name], shares[first, model, name]) for name in features},
                others[0],
                first,
            )
        figures.append(
            Figure(
                name=f"importance-{task}",
                title=title,
                finding=finding,
                plots=[Plot(f"All models, protocol {first}, percent of each", svg)],
                tables=[table],
                size="whole",
                note=f"How it is measured: {_measured(models, methods)}. These are not the same thing: compare "
                "ranks, not shares.",
            )
        )
    return figures


def _measured(models: list[str], methods: dict[str, str]) -> str:
    """Returns how the models' importances are measured. Args: methods: by model."""
    by_method: dict[str, list[str]] = defaultdict(list)
    for model in models:
        by_method[methods[model]].append(model)
    return "; ".join(f"{method} ({', '.join(names)})" for method, names in by_method.items())


def moved_in_words(shares: dict[str, tuple[float, float]], first: str, last: str) -> str:
    """Returns which feature's share differs most between two protocols; empty if no difference can be seen."""
    moved = max(shares, key=lambda name: abs(shares[name][0] - shares[name][1]))
    before, after = (percent(share, 1) for share in shares[moved])
    if before == after:
        return ""
    return f" The share of {moved} changes most with the protocol: from {before} under {first} to {after} under {last}."


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
        finding = f"Under {protocol} {best['model']} is off by {best['rmse']:.2f} points (RMSE)"
        finding += "." if best["r2"] is None else f" and explains {percent(best['r2'])} of the variance (R2)."
        if means:
            (low, at_low), (high, at_high) = means[0], means[-1]
            finding += (
                f" It predicts {at_low:.0f} on average for tracks whose popularity is {low - 2.5:.0f} to "
                f"{low + 2.5:.0f}, and {at_high:.0f} for those of {high - 2.5:.0f} to {high + 2.5:.0f}."
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
        "mean prediction; grey diagonal: perfect.",
    )


def reliability(results: Results) -> Figure:
    """Returns the figure on how often the predicted genre is right, by its stated probability.

    The champion's model is drawn, or the best model if the run has no such cell; the others are folded.
    """
    title = "Can the models' own probabilities be trusted?"
    bins: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    protocols = list(results.of_task("genre"))
    for row in results.rows("calibration"):
        if row["protocol"] in protocols:
            bins[row["model"]][row["protocol"]].append(row)
    if not bins:
        return Figure(name="reliability", title=title, finding="No model on feature set all gives probabilities.")
    labels = {"x_label": "stated probability", "y_label": "share right"}
    champion = next((row["model"] for row in results.rows("champions") if _predicts_genre(row)), "")
    ranked = [champion, *(row["model"] for board in reversed(results.of_task("genre").values()) for row in board)]
    first = next((model for model in ranked if model in bins), next(iter(bins)))
    drawn: dict[str, Plot] = {}
    errors = {}
    for model, by_protocol in bins.items():
        lines, said = [], []
        for protocol in (name for name in protocols if name in by_protocol):
            rows = by_protocol[protocol]
            n, most = sum(row["n"] for row in rows), max(row["n"] for row in rows)
            error = sum(row["n"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / n
            bias = sum(row["n"] * (row["confidence"] - row["accuracy"]) for row in rows) / n
            errors[model, protocol] = error
            said.append(f"Under {protocol} it is {calibrated_in_words(error, bias)}.")
            points = [(row["confidence"], row["accuracy"]) for row in rows]
            lines.append(Curve(points, protocols.index(protocol), sizes=[row["n"] / most for row in rows]))
        unit, finding = Scale(0, 1), " ".join(said)
        size = (360.0, 290.0) if model == first else (230.0, 200.0)
        svg = plots.curves(lines, unit, unit, f"{model}. {finding}", **labels, diagonal=True, size=size)
        drawn[model] = Plot(model, svg, finding)
    who = "The champion's model" if first == champion else "The best model with probabilities"
    others = sorted((model for model in drawn if model != first), key=lambda model: min(
        errors[model, protocol] for protocol in bins[model]
    ))  # fmt: skip
    return Figure(
        name="reliability",
        title=title,
        finding=f"{who} is {first}. Its probabilities are drawn as the model says them, before the champion's "
        f"calibration. {drawn[first].finding}",
        plots=[replace(drawn[first], finding="")],
        size="large",
        folded=[drawn[model] for model in others],
        folded_title="The other models, those closest to the truth first",
        legend=[(sparklines.dash(at), protocol) for at, protocol in enumerate(protocols)],
        note="On the grey diagonal, what is said to be 60 % sure is right in 60 % of the test tracks; below it the "
        "model is overconfident. Larger dots: more tracks. Feature set all.",
    )


def _predicts_genre(row: Row) -> bool:
    return bool(row["stands"]) and row["task"] == "genre"


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


def ensembles(results: Results) -> Figure | None:
    """Returns the figure of the members' weights in the run's ensembles; None if it has none."""
    rows = results.rows("ensembles")
    if not rows:
        return None
    tables, findings = [], []
    by_cell = groupby(rows, key=lambda row: (row["protocol"], row["task"], row["model"], row["feature_set"]))
    for (protocol, task, model, feature_set), members in ((cell, list(group)) for cell, group in by_cell):
        metric = HEADLINES[task]
        kept = ", ".join(f"{row['member']} {percent(row['weight'])}" for row in members if row["weight"])
        what = f"{model} on {feature_set} for {task}, {protocol}"
        findings.append(f"{what}: {kept}.")
        tables.append(
            HtmlTable(
                caption=what,
                columns=[
                    *texts("member"), *numbers("weight"), Column("weight, 0 to 1", "plot"),
                    *secondary(numbers(f"{metric.label} alone, out of fold")),
                ],
                rows=[
                    [
                        row["member"], number(row["weight"], 2), sparklines.span(Scale(0, 1), 0, row["weight"]),
                        number(row["out_of_fold"], metric.digits),
                    ]
                    for row in members
                ],
                sql=rows.sql,
            )
        )  # fmt: skip
    return Figure(
        name="ensembles",
        title="What the ensemble is made of",
        finding="\n".join(findings),
        tables=tables,
        note="The weights are those that fit best to out-of-fold predictions of the training and validation rows. Nets "
        "watched these rows to stop early, which flatters them slightly. Members of less than 1 % are left out.",
    )
