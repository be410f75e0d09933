"""Predict genre and popularity of new tracks with the champions, each with how sure it is."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.settings import PREFECT_API_URL

from flows import cli, flow_command
from flows.parameters import Share, StoredModelName
from tasks.addresses import has_secrets
from tasks.champions import TRAIN
from tasks.columns import parse_mapping
from tasks.observed import predict_task
from tasks.predict_files import Report, predict_file
from tasks.warehouse import Warehouse


@flow(name="predict", flow_run_name="predict {tracks}")
def predict(
    tracks: str,
    out: str | None = None,
    warehouse: str | None = None,
    model: StoredModelName | None = None,
    columns: str = "",
    max_reject_share: Share = 0.05,
) -> Path:
    """Predict every track of a file. Returns: the file of predictions.

    Args:
        tracks: path, URL without secrets or sample[:ROWS]; any of the audio features may be missing.
        out: .parquet, .csv or .csv.gz; by default named after the tracks, in the current directory.
        warehouse: where the models are; by default $MUSIC_WAREHOUSE, else ./warehouse.
        model: predict with this one instead of the champion of each task that it predicts.
        columns: the file's own names as ours=theirs,... or the path of a TOML file.
        max_reject_share: stop if a larger share of the rows has bad values.
    """
    home = Warehouse.existing(warehouse, advice=TRAIN)
    report: Report = predict_task(tracks, out, home, model, parse_mapping(columns), max_reject_share)
    _print(report)
    return report.out


def parser() -> cli.Parser:
    """The command's options."""
    command = cli.Parser(prog="python -m flows.predict", description=__doc__)
    add = command.add_argument
    add("tracks", metavar="TRACKS", help="CSV, gzipped CSV or Parquet by path or URL, or sample[:ROWS]")
    add("--out", metavar="FILE", help=".parquet, .csv or .csv.gz; by default TRACKS' name with .predictions.parquet")
    cli.add_warehouse(command)
    add("--model", metavar="NAME", help="predict with this one instead of the champions")
    add("--columns", default="", metavar="OURS=THEIRS,...", help="the file's own names, or a TOML file of such pairs")
    add(
        "--max-reject-share",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="stop if more of the rows have bad values; by default 0.05",
    )
    return command


def _print(report: Report) -> None:
    for line in report.summary:
        cli.tell(line)


def main() -> int:
    """The command `python -m flows.predict`: a flow run where a Prefect server is configured, else without Prefect.

    Prefect's temporary server takes longer to start than most files take to predict. A URL that holds secrets stays out
    of Prefect, which keeps a flow run's parameters.
    """
    options = flow_command.parameters(parser(), predict)
    if PREFECT_API_URL.value() and not has_secrets(options["tracks"]):
        with flow_command.prefect_server():
            predict(**options)
        return 0
    home = Warehouse.existing(options.pop("warehouse"), advice=TRAIN)
    columns = parse_mapping(options.pop("columns"))
    _print(predict_file(**options, warehouse=home, columns=columns))
    return 0


if __name__ == "__main__":
    flow_command.run_command(main, kept="Nothing was written.")
