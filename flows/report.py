"""Write the report of a run, or of two runs side by side, as one self-contained HTML file."""

from __future__ import annotations

import sys

from flows import cli
from flows.options import Parser, add_warehouse
from tasks.reporting.report import write_comparison, write_report
from tasks.storage.outputs import out_file
from tasks.storage.warehouse import Warehouse


def parser() -> Parser:
    """Returns the parser of the command's options."""
    command = Parser(prog="python -m flows.report", description=__doc__)
    add = command.add_argument
    add("--run", metavar="RUN_ID", help="the run to report; by default the newest completed one")
    add("--compare", metavar="RUN_ID", help="set this run beside it, with what is different")
    add("--out", metavar="FILE", help="where to write; by default below reports/ of the warehouse")
    add_warehouse(command)
    return command


def main() -> int:
    """Runs `python -m flows.report`. Returns the exit code."""
    options = parser().parse_args()
    out = out_file(options.out) if options.out else None
    warehouse = Warehouse.to_read(options.warehouse)
    written = (
        write_comparison(options.run, options.compare, warehouse, out)
        if options.compare
        else write_report(options.run, warehouse, out)
    )
    sys.stdout.write(f"{written}\n")
    return 0


if __name__ == "__main__":
    cli.run_command(main, kept="Nothing was written.")
