"""Predict genre and popularity of new tracks with the champions, with their uncertainty."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.settings import PREFECT_API_URL

from flows import cli, server
from flows.options import Parser, parser_of
from flows.parameters import Bytes, Columns, Features, File, StoredModelName, TracksFile, Units, WarehouseName
from tasks.ingest.columns import MIN_FEATURES, parse_mapping
from tasks.ingest.sources import MAX_BYTES
from tasks.ingest.units import parse_units
from tasks.orchestration.prefect_tasks import predict_task
from tasks.prediction.batch import PredictionOutcome, predict_file
from tasks.prediction.champions import TRAIN
from tasks.storage.urls import has_secrets
from tasks.storage.warehouse import Warehouse


@flow(name="predict", flow_run_name="predict {tracks}")
def predict(
    tracks: TracksFile,
    out: File | None = None,
    warehouse: WarehouseName | None = None,
    model: StoredModelName | None = None,
    columns: Columns = "",
    strict: bool = False,
    units: Units = "",
    min_features: Features = MIN_FEATURES,
    max_source_bytes: Bytes = MAX_BYTES,
) -> Path:
    """Predict every track of a file, except rows with bad values. The result is the path of the predictions.

    Args:
        tracks: CSV, gzipped CSV or Parquet by path or URL, or sample[:ROWS]. Any of the audio features may be missing.
            A flow run keeps its parameters: give it no URL that holds secrets.
        out: .parquet, .csv or .csv.gz. By default named after the tracks, in the current directory.
        warehouse: where the models are, a folder or a URL. By default $MUSIC_WAREHOUSE, else ./warehouse.
        model: predict with this model instead of the champion of each task that it predicts.
        columns: the file's own column names, as ours=theirs,..., in a TOML file of such pairs, or as the name of a
            public file (tidytuesday).
        strict: refuse the file if any row has bad values; without it, the other rows are predicted.
        units: convert columns in another unit, as energy=percent,duration_ms=seconds,... (docs/input.md).
        min_features: refuse a file with fewer of the 12 audio features.
        max_source_bytes: refuse a source that is larger, as it is or unpacked: bytes, or a size such as 20GB.
    """
    opened = Warehouse.to_read(warehouse, advice=TRAIN)
    outcome: PredictionOutcome = predict_task(
        tracks,
        out,
        opened,
        model,
        parse_mapping(columns),
        strict,
        parse_units(units),
        min_features,
        max_source_bytes,
    )
    _print(outcome)
    return outcome.out


def parser() -> Parser:
    """Returns the parser of the command's options."""
    return parser_of("flows.predict", __doc__, predict)


def _print(outcome: PredictionOutcome) -> None:
    for line in outcome.summary:
        cli.tell(line)


def main() -> int:
    """Runs `python -m flows.predict`: as a flow if a Prefect server is configured, else without Prefect.

    Prefect's temporary server takes longer to start than most files take to predict. A URL with secrets is not given to
    Prefect, which stores the parameters of a flow run.
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
