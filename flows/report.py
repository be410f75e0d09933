"""Write the report of a run, or of two runs side by side, as one self-contained HTML file."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import Field

from flows import cli
from flows.options import Command, Outcome, names
from flows.parameters import File, MetricName, RunId, WarehouseName
from tasks.errors import UserError

WORSE = 2  # the exit code if a metric got worse

Compared = Annotated[list[RunId], Parameter(metavar="RUN_ID", consume_multiple=(1, 2))]
Metrics = Annotated[list[MetricName], Field(min_length=1), Parameter(metavar="A,B", converter=names, n_tokens=1)]


def report(
    run: RunId | None = None,
    compare: Compared | None = None,
    format: Literal["html", "md", "json"] = "html",  # noqa: A002 - the option's name
    fail_if_worse: Metrics | None = None,
    out: File | None = None,
    warehouse: WarehouseName | None = None,
) -> Outcome:
    """Writes the page, or prints the comparison.

    Args:
        run: the run to report. By default the newest completed one.
        compare: a run to set beside the reported one, as the run before; or two runs, the one before and the one after.
        format: of a comparison: html is a page; md (Markdown) and json are printed, or written where --out says.
        fail_if_worse: exit with code 2 if one of these metrics is worse in the run after than in the run before, for
            any model, so that the 95 % interval of the difference does not hold 0, or if a model that had it failed.
        out: where to write. By default below reports/ of the warehouse.
        warehouse: whose runs, a folder or a URL. By default $MUSIC_WAREHOUSE, else ./warehouse.
    """
    from tasks.reporting import run_verdicts
    from tasks.reporting.report import write_comparison, write_report
    from tasks.storage.outputs import out_file
    from tasks.storage.warehouse import Warehouse

    if not compare and (format != "html" or fail_if_worse):
        raise UserError("--format and --fail-if-worse are of a comparison: add --compare RUN_ID.")
    if compare and len(compare) > 1:
        if run:
            raise UserError("--run: --compare names both runs already.")
        run = compare[1]
    path = out_file(out) if out else None
    opened = Warehouse.to_read(warehouse)
    if not compare:
        written = write_report(run, opened, path)
        return Outcome(facts={"page": written}, show=lambda: sys.stdout.write(f"{written}\n"))
    found = run_verdicts.of_runs(run, compare[0], fail_if_worse or [], opened)
    if format == "html":
        page = write_comparison(run, compare[0], opened, path)
        shown = str(page)
    else:
        page, shown = None, json.dumps(found.facts, default=str, indent=2) if format == "json" else found.markdown()
        if path:
            path.write_text(f"{shown}\n", encoding="utf-8")
            page, shown = path, str(path)
    for line in found.gate:
        cli.tell(line)
    return Outcome(
        facts=found.facts | {"page": page},
        show=lambda: sys.stdout.write(f"{shown}\n"),
        code=WORSE if found.worse or found.broken else 0,
    )


def run_report(options: dict[str, Any]) -> Outcome:
    """Writes the report for the command."""
    return report(**options)


COMMAND = Command(
    name="report",
    function=report,
    run=run_report,
    kept="Nothing was written.",
    examples=("", "--compare BEFORE AFTER", "--compare BEFORE --format md --fail-if-worse accuracy,rmse"),
)

if __name__ == "__main__":
    cli.run_app(COMMAND.app())
