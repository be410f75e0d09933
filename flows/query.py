"""Ask one question in SQL about the published results: read only, and only files of the warehouse.

Without a question, list the published tables and views.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, Literal

from flows import cli
from flows.options import Command, Outcome
from flows.parameters import Sql, WarehouseName

EXAMPLE = "from results.leaderboard limit 5"


def query(
    sql: Sql | None = None,
    format: Literal["table", "csv", "json"] = "table",  # noqa: A002 - the option's name
    warehouse: WarehouseName | None = None,
) -> None:
    """Prints the answer of a query on standard output.

    Args:
        sql: one SELECT. Without it, the published tables and views are listed.
        format: how the answer is printed.
        warehouse: whose results, a folder or a URL. By default $MUSIC_WAREHOUSE, else ./warehouse.
    """
    from tasks.results.query import answer, list_tables
    from tasks.storage.warehouse import Warehouse

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # exit at once: there is nothing to record, and DuckDB would compute on
    try:
        opened = Warehouse.to_read(warehouse)
        if sql is None:
            list_tables(format, opened)
            sys.stdout.flush()
            asked = opened.client
            cli.tell(f'Columns: {asked} "describe results.leaderboard"; a question: {asked} "{EXAMPLE}"')
        else:
            answer(sql, format, opened)
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(options: dict[str, Any]) -> Outcome:
    """Answers the question for the command."""
    query(**options)
    return Outcome()


COMMAND = Command(
    name="query",
    function=query,
    run=run,
    kept="Nothing was written.",
    examples=("", f'"{EXAMPLE}"', '"select run_id, status from results.runs" --format csv'),
    has_facts=False,
)

if __name__ == "__main__":
    cli.run_app(COMMAND.app())
