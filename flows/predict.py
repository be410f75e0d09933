"""Predict genre and popularity of new tracks with the champions, each with how sure it is."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.settings import PREFECT_API_URL

from flows import cli, server
from flows.parameters import Bytes, Features, Share, StoredModelName
from tasks.ingest.columns import MIN_FEATURES, parse_mapping
from tasks.ingest.sources import MAX_BYTES
from tasks.ingest.units import parse_units
from tasks.orchestration.prefect_tasks import predict_task
from tasks.prediction.batch import Report, predict_file
from tasks.prediction.champions import TRAIN
from tasks.storage.urls import has_secrets
from tasks.storage.warehouse import Warehouse


@flow(name="predict", flow_run_name="predict {tracks}")
def predict(
    tracks: str,
    out: str | None = None,
    warehouse: str | None = None,
    model: StoredModelName | None = None,
    columns: str = "",
    max_reject_share: Share = 0.05,
    units: str = "",
    min_features: Features = MIN_FEATURES,
    max_source_bytes: Bytes = MAX_BYTES,
) -> Path:
    """Predict every track of a file. Returns: the file of predictions.

    Args:
        tracks: path, URL without secrets or sample[:ROWS]; any of the audio features may be missing.
        out: .parquet, .csv or .csv.gz; by default named after the tracks, in the current directory.
        warehouse: where the models are; by default $MUSIC_WAREHOUSE, else ./warehouse.
        model: predict with this one instead of the champion of each task that it predicts.
        columns: the file's own names as ours=theirs,... or the path of a TOML file.
        units: of columns in another unit than the project's, as energy=percent,duration_ms=seconds,...
        max_reject_share: stop if a larger share of the rows has bad values.
        min_features: refuse a file with fewer of the 12 audio features.
        max_source_bytes: stop if the source holds more, as it is or unpacked: a number or a size such as 20GB.
    """
    opened = Warehouse.to_read(warehouse, advice=TRAIN)
    report: Report = predict_task(
        tracks,
        out,
        opened,
        model,
        parse_mapping(columns),
        max_reject_share,
        parse_units(units),
        min_features,
        max_source_bytes,
    )
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
    cli.add_values(command)
    add(
        "--max-reject-share",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="stop if more of the rows have bad values; by default 0.05",
    )
    cli.add_max_source_bytes(command)
    return command


def _print(report: Report) -> None:
    for line in report.summary:
        cli.tell(line)


def main() -> int:
    """The command `python -m flows.predict`: a flow run where a Prefect server is configured, else without Prefect.

    Prefect's temporary server takes longer to start than most files take to predict. A URL that holds secrets stays out
    of Prefect, which keeps a flow run's parameters.
    """
    options = cli.parameters(parser(), predict)
    if PREFECT_API_URL.value() and not has_secrets(options["tracks"]):
        server.run_with_prefect(predict, options)
        return 0
    opened = Warehouse.to_read(options.pop("warehouse"), advice=TRAIN)
    columns, units = parse_mapping(options.pop("columns")), parse_units(options.pop("units"))
    max_bytes = options.pop("max_source_bytes")
    _print(predict_file(**options, warehouse=opened, columns=columns, units=units, max_bytes=max_bytes))
    return 0


if __name__ == "__main__":
    cli.run_command(main, kept="Nothing was written.")
