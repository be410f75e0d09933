"""Remove old runs, and the feature versions, cells and files that nothing else needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from pydantic import Field

from flows import cli
from flows.options import Command, Outcome
from flows.parameters import WarehouseName
from tasks.errors import one_line
from tasks.specs import GRACE_HOURS
from tasks.upkeep.policy import MOST, Policy

if TYPE_CHECKING:
    from rich.table import Table

    from tasks.upkeep.cleanup import CleanupOutcome
    from tasks.upkeep.integrity import Findings
    from tasks.upkeep.inventory import Item

WAIT = 600.0
MIB = 1024**2
EXAMPLES = 2

Limit = Annotated[int, Field(ge=1, le=MOST), Parameter(metavar="N")]
Hours = Annotated[float, Field(ge=0, le=24 * MOST), Parameter(metavar="N", show_default="{:g}".format)]
Wait = Annotated[float, Field(ge=0), Parameter(metavar="SECONDS", show_default="{:g}".format)]


def upkeep(
    keep_runs: Limit | None = None,
    keep_days: Limit | None = None,
    grace_hours: Hours = GRACE_HOURS,
    dry_run: bool = False,
    wait: Wait = WAIT,
    warehouse: WarehouseName | None = None,
) -> CleanupOutcome:
    """Remove what no kept run, publication or search needs. The result lists what was, or would be, removed.

    Args:
        keep_runs: keep the newest N runs that completed, and N that did not, of the current catalogue and of trials
            each. 14 if no limit is given.
        keep_days: keep the runs of the last N days, and the current catalogue's newest completed one. With keep_runs a
            run stays that either of them keeps.
        grace_hours: keep files so long after they are first found unneeded, for readers of an older publication.
        dry_run: only say what would go; with --check: set nothing aside.
        wait: seconds to wait for flows in progress to end.
        warehouse: where data is kept, a folder or a URL (s3://bucket/prefix). By default $MUSIC_WAREHOUSE, else
            ./warehouse.
    """
    from prefect import get_run_logger

    from tasks.orchestration.crashed_runs import mark_killed_runs
    from tasks.orchestration.prefect_tasks import upkeep_task
    from tasks.storage.warehouse import Warehouse

    opened = Warehouse.existing(warehouse)
    mark_killed_runs(opened)
    policy = Policy(keep_runs=keep_runs, keep_days=keep_days, grace_hours=grace_hours)
    outcome = upkeep_task(
        policy, wait, lambda: cli.tell("Waiting for the flows in progress to end ..."), opened, dry_run=dry_run
    )
    get_run_logger().info("%s", summary(outcome))
    return outcome


def summary(outcome: CleanupOutcome) -> str:
    """Returns one line: what was removed, what will be, and what is left."""
    runs = sum(item.kind == "run" for item in outcome.going.values())
    said = "would go" if outcome.is_dry_run else "gone"
    freed = f"{runs} runs and {len(outcome.going) - runs} files {said}, {outcome.freed / MIB:,.1f} MiB"
    more = f"{len(outcome.later)} more files, {outcome.freed_later / MIB:,.1f} MiB"
    later = f"; {more}, after a grace of {outcome.grace_hours:g} h"
    here = f"; {outcome.freed_here / MIB:,.1f} MiB freed in the working copy" if outcome.freed_here else ""
    return (
        f"{freed}{later if outcome.later else ''}{here}; {outcome.kept} runs kept, {outcome.size / MIB:,.1f} MiB in all"
    )


def print_outcome(outcome: CleanupOutcome) -> None:
    """Prints the removed items by kind, with examples."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    titles = (("Would go" if outcome.is_dry_run else "Gone", outcome.going), ("Later", outcome.later))
    for title, named in titles:
        if named:
            console.print(_table(title, named))
    console.print(summary(outcome), soft_wrap=True)


def _table(title: str, named: Mapping[str, Item]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=f"\n{title}", title_justify="left", box=box.SIMPLE_HEAD)
    for name, justify in (("what", "left"), ("count", "right"), ("MiB", "right"), ("such as", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for kind in sorted({item.kind for item in named.values()}):
        chosen = {name: item for name, item in named.items() if item.kind == kind}
        size = sum(item.size for item in chosen.values()) / MIB
        examples = ", ".join(sorted(chosen)[:EXAMPLES]) + (", ..." if len(chosen) > EXAMPLES else "")
        table.add_row(kind, f"{len(chosen):,}", f"{size:,.1f}", examples)
    return table


def print_findings(findings: Findings) -> None:
    """Prints what is missing, cut off or altered."""
    for fault in findings.faults:
        print(f"{one_line(fault.path)}: {fault.what}")  # noqa: T201
    unsure = f", {findings.without_checksum:,} of them without a checksum" if findings.without_checksum else ""
    read = f"{findings.files:,} stored files read, {findings.size / MIB:,.1f} MiB{unsure}"
    print(f"{read}: {len(findings.faults) or 'no'} fault{'' if len(findings.faults) == 1 else 's'}")  # noqa: T201


def run(options: dict[str, Any]) -> Outcome:
    """Cleans up as a flow or, with --check, reads every stored file."""
    from tasks.storage.warehouse import Warehouse

    if options.pop("check"):
        return _check(options["warehouse"], dry_run=options["dry_run"])
    from flows import server

    Warehouse.existing(options["warehouse"])
    outcome: CleanupOutcome = server.run_with_prefect(upkeep, options)
    return Outcome(
        facts={
            "dry_run": outcome.is_dry_run,
            "runs_kept": outcome.kept,
            "removed": sorted(outcome.going),
            "removed_bytes": outcome.freed,
            "removed_later": sorted(outcome.later),
            "bytes": outcome.size,
        },
        show=lambda: print_outcome(outcome),
    )


def _check(warehouse: str | None, *, dry_run: bool) -> Outcome:
    from tasks.storage.warehouse import Warehouse
    from tasks.upkeep.integrity import check

    opened = Warehouse.to_read(warehouse, advice="Choose another with --warehouse.")
    with opened.in_use(reads_only=dry_run):
        findings = check(opened, dry_run=dry_run)
    faults = [{"path": fault.path, "what": fault.what} for fault in findings.faults]
    return Outcome(
        facts={"files": findings.files, "bytes": findings.size, "faults": faults},
        show=lambda: print_findings(findings),
        code=1 if findings.faults else 0,
    )


COMMAND = Command(
    name="upkeep",
    function=upkeep,
    run=run,
    kept="What was not removed yet is still there: run it again.",
    examples=("--dry-run", "--keep-days 30", "--check"),
    flags={
        "check": "remove nothing, but read every stored file and say what is missing, cut off or altered (exit code 1 "
        "if anything is); what is cut off or altered is set aside below damaged/, and made again by the next run",
    },
)

if __name__ == "__main__":
    cli.run_app(COMMAND.app())
