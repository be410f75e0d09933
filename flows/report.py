"""Write the report of a past run, or of two side by side, as one HTML file that needs nothing else."""

from __future__ import annotations

import sys

from flows import cli
from tasks.reporting.report import write_comparison, write_report
from tasks.storage.warehouse import Warehouse


def parser() -> cli.Parser:
    """The command's options."""
    command = cli.Parser(prog="python -m flows.report", description=__doc__)
    add = command.add_argument
    add("--run", metavar="RUN_ID", help="the run to report; by default the newest completed one")
    add("--compare", metavar="RUN_ID", help="set this run beside it, with what is different")
    add("--out", metavar="FILE", help="where to write; by default below reports/ of the warehouse")
    cli.add_warehouse(command)
    return command


def main() -> int:
    """The command `python -m flows.report`."""
    options = parser().parse_args()
    out = cli.out_file(options.out) if options.out else None
    warehouse = Warehouse.to_read(options.warehouse)
    written = (
        write_comparison(options.run, options.compare, warehouse, out)
        if options.compare
        else write_report(options.run, warehouse, out)
    )
    sys.stdout.write(f"{written}\n")
    return 0


if __name__ == "__main__":
    cli.run_command(main)
