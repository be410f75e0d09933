"""A notebook of marimo that explores the published results. It only reads them.

pip install --constraint constraints.txt marimo
marimo edit examples/explore_results.py        # or: marimo run, for the page without its code

$MUSIC_WAREHOUSE says which warehouse is read; by default ./warehouse.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Results")

with app.setup:
    from html import escape

    import marimo as mo
    import polars as pl

    from flows.python import leaderboard, query
    from tasks.specs import GENERATED, HEADLINES, METRICS


@app.function
def bar(low: float | None, value: float, high: float | None, least: float, most: float) -> str:
    """Returns a dot with its interval as SVG, on a scale from `least` to `most`."""

    def at(number: float) -> float:
        return 4 + 152 * (number - least) / ((most - least) or 1)

    line = "" if low is None or high is None else f'<path d="M{at(low):.1f} 8H{at(high):.1f}" stroke="currentColor"/>'
    return f'<svg width="160" height="16">{line}<circle cx="{at(value):.1f}" cy="8" r="4" fill="#1f5fa8"/></svg>'


@app.function
def table(columns: list[str], rows: list[list[str]]) -> mo.Html:
    """Returns a table. Its cells are HTML: texts are escaped by who makes them."""
    head = "".join(f'<th style="text-align:left;padding:2px 10px">{name}</th>' for name in columns)
    body = "".join(
        "<tr>" + "".join(f'<td style="padding:2px 10px">{cell}</td>' for cell in row) + "</tr>" for row in rows
    )
    return mo.Html(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


@app.function
def number(value: float | None, digits: int) -> str:
    """Returns a number as text; empty for None."""
    return "" if value is None else f"{value:.{digits}f}"


@app.cell
def _():
    board = leaderboard()
    # One entry for each set of tracks and budget that models were trained on, the real ones first, then the newest.
    _sets = (
        board.group_by("staging_version", "budget")
        .agg(pl.col("source", "is_generated").first(), pl.col("started_at").max())
        .sort("is_generated", "started_at", descending=[False, True])
    )
    tracks = mo.ui.dropdown(
        {
            f"{at + 1}: {row['source']}, budget {row['budget']}{', GENERATED' if row['is_generated'] else ''}": (
                row["staging_version"],
                row["budget"],
            )
            for at, row in enumerate(_sets.iter_rows(named=True))
        },
        allow_select_none=False,  # the first
        label="Tracks and budget",
    )
    mo.vstack([mo.md("# Results"), tracks])
    return board, tracks


@app.cell
def _(board, tracks):
    chosen = board.filter(pl.col("staging_version") == tracks.value[0], pl.col("budget") == tracks.value[1])
    _protocols = sorted(chosen["protocol"].unique(), reverse=True)
    protocol = mo.ui.dropdown(_protocols, allow_select_none=False, label="Protocol")
    _source = chosen["source"][0]
    mo.vstack(
        [
            mo.callout(mo.md(f"**{GENERATED}**"), kind="danger")
            if chosen["is_generated"].any()
            else mo.Html(f"<p>Figures of the test split of <code>{escape(_source)}</code>.</p>"),
            protocol,
        ]
    )
    return chosen, protocol


@app.cell
def _(chosen, protocol):
    _tasks = sorted(chosen.filter(pl.col("protocol") == protocol.value)["task"].unique())
    task = mo.ui.dropdown(_tasks, allow_select_none=False, label="Task")
    task
    return (task,)


@app.cell
def _(chosen, protocol, task):
    metric = HEADLINES[task.value].name
    digits = METRICS[metric].digits
    ranked = chosen.filter(pl.col("protocol") == protocol.value, pl.col("task") == task.value).sort("rank")
    _ends = ranked.select(f"{metric}_low", metric, f"{metric}_high").rows()
    _known = [end for row in _ends for end in row if end is not None]
    mo.vstack(
        [
            mo.md(f"## Leaderboard: {METRICS[metric].label}, with 95 % intervals"),
            table(
                ["model", "feature set", metric, "interval", "", "fit s"],
                [
                    [
                        escape(row["model"]),
                        escape(row["feature_set"]),
                        number(row[metric], digits),
                        f"{number(row[f'{metric}_low'], digits)} .. {number(row[f'{metric}_high'], digits)}",
                        bar(row[f"{metric}_low"], row[metric], row[f"{metric}_high"], min(_known), max(_known)),
                        number(row["fit_seconds"], 1),
                    ]
                    for row in ranked.iter_rows(named=True)
                ],
            ),
        ]
    )
    return digits, metric, ranked


@app.cell
def _(chosen, digits, metric, task, tracks):
    _found = chosen.filter(pl.col("task") == task.value)
    _protocols = [name for name in ("published", "label_free", "cold_start") if name in _found["protocol"]]
    _by_protocol = _found.pivot("protocol", index=["model", "feature_set"], values=metric).sort(
        _protocols[-1], descending=METRICS[metric].higher_is_better, nulls_last=True
    )
    _leaks = query("from results.leak_ledger where inflation is not null").filter(
        pl.col("staging_version") == tracks.value[0], pl.col("task") == task.value, pl.col("metric") == metric
    )
    mo.vstack(
        [
            mo.md(
                "## The leak by protocol\n\n`published` fills missing values by genre, as the study did; `label_free` "
                "does not use the genre; `cold_start` also keeps all tracks of an artist in one split."
            ),
            table(
                ["model", "feature set", *_protocols],
                [
                    [
                        escape(row["model"]),
                        escape(row["feature_set"]),
                        *(number(row[name], digits) for name in _protocols),
                    ]
                    for row in _by_protocol.iter_rows(named=True)
                ],
            ),
            mo.md("What each leak is worth, on the same test rows, with its 95 % interval:"),
            table(
                ["leak", "model", "feature set", "with", "without", "inflation", "interval"],
                [
                    [
                        escape(row["leak"]),
                        escape(row["model"]),
                        escape(row["feature_set"]),
                        *(number(row[name], digits) for name in ("with_leak", "without_leak", "inflation")),
                        f"{number(row['inflation_low'], digits)} .. {number(row['inflation_high'], digits)}",
                    ]
                    for row in _leaks.iter_rows(named=True)
                ],
            )
            if len(_leaks)
            else mo.md("*Not measured: that needs `published` and `label_free`, or a probe, with budget `full`.*"),
        ]
    )
    return


@app.cell
def _(chosen, protocol):
    _genre = chosen.filter(pl.col("protocol") == protocol.value, pl.col("task") == "genre").sort("rank")
    mo.stop(len(_genre) == 0, mo.md("*No model of genre was trained with this protocol.*"))
    cell = mo.ui.dropdown(
        {f"{row['model']} on {row['feature_set']}": row for row in _genre.iter_rows(named=True)},
        allow_select_none=False,
        label="Model of genre",
    )
    mo.vstack([mo.md("## One model of genre"), cell])
    return (cell,)


@app.cell
def _(cell):
    def of_cell(frame: pl.DataFrame) -> pl.DataFrame:
        """Returns the test rows of the chosen model in a table of results."""
        same = [pl.col(name) == cell.value[name] for name in ("run_id", "protocol", "model", "feature_set", "seed")]
        return frame.filter(*same, pl.col("split") == "test")

    return (of_cell,)


@app.cell
def _(of_cell):
    _confusion = of_cell(query("from results.confusion"))
    _names = sorted({*_confusion["true_genre"], *_confusion["predicted_genre"]})
    _counts = {(true, predicted): n for true, predicted, n in _confusion["true_genre", "predicted_genre", "n"].rows()}

    def _row(true: str) -> list[str]:
        total = sum(_counts.get((true, name), 0) for name in _names) or 1
        shares = [_counts.get((true, name), 0) / total for name in _names]
        cells = [
            f'<div style="background:rgba(31,95,168,{share:.2f});text-align:right;padding:2px">{100 * share:.0f}</div>'
            for share in shares
        ]
        return [escape(true), *cells]

    mo.vstack(
        [
            mo.md("### Confusion: rows are true genres, columns predicted ones, in percent of the row"),
            table(["", *map(escape, _names)], [_row(true) for true in _names]),
        ]
    )
    return


@app.cell
def _(of_cell):
    _bins = of_cell(query("from results.calibration")).sort("bin")
    _at = [(200 * x, 200 - 200 * y, n) for x, y, n in _bins["confidence", "accuracy", "n"].rows()]
    _line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in _at)
    _dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2 + 6 * (n / _bins["n"].max()) ** 0.5:.1f}" fill="#1f5fa8">'
        f"<title>{n:,} tracks</title></circle>"
        for x, y, n in _at
    )
    mo.vstack(
        [
            mo.md("### Calibration: how often a genre is right (up), by its probability (right), both from 0 to 1"),
            mo.Html(
                '<svg width="220" height="220" viewBox="-10 -10 220 220" fill="none">'
                '<path d="M0 0V200H200M0 200L200 0" stroke="currentColor" stroke-opacity="0.4"/>'
                f'<polyline points="{_line}" stroke="#1f5fa8"/>'
                f"{_dots}</svg>"
            ),
        ]
    )
    return


@app.cell
def _(ranked):
    [_first] = query(
        f"""
        select min(track_id) as first from results.predictions
        where run_id = '{ranked["run_id"][0]}' and protocol = '{ranked["protocol"][0]}' and split = 'test'
        """
    )["first"]
    track = mo.ui.number(value=_first, step=1, label="track_id")
    mo.vstack([mo.md("## One track, by every model\n\nTracks of the test split of the chosen protocol."), track])
    return (track,)


@app.cell
def _(ranked, task, track):
    _predicted = (
        query(f"from results.predictions where track_id = {int(track.value)} and split = 'test'")
        .filter(pl.col("task") == task.value)
        .join(ranked, on=["run_id", "protocol", "model", "feature_set", "seed"], maintain_order="right")
    )
    _named = query(
        f"""
        select artist_name, track_name from staging.stg_tracks
        where track_id = {int(track.value)}
            and (select snapshot from raw.snapshots where is_published) = '{ranked["snapshot"][0]}'
        """
    )
    _title = " by ".join(map(str, _named.row(0)[::-1])) if len(_named) else f"track {int(track.value)}"
    _is_genre = task.value == "genre"
    _columns = ("true_genre", "predicted_genre") if _is_genre else ("y_true", "y_pred")
    mo.vstack(
        [
            mo.Html(f"<p><b>{escape(_title)}</b></p>"),
            table(
                ["model", "feature set", "true", "predicted"],
                [
                    [
                        escape(row["model"]),
                        escape(row["feature_set"]),
                        *(escape(row[name]) if _is_genre else number(row[name], 1) for name in _columns),
                    ]
                    for row in _predicted.iter_rows(named=True)
                ],
            )
            if len(_predicted)
            else mo.md("*It is not in this test split.*"),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
