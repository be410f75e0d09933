"""Predict genre and popularity of new tracks with the champions, with their uncertainty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows import cli
from flows.options import Command, Outcome
from flows.parameters import (
    SOURCE_BYTES,
    Bytes,
    Columns,
    Features,
    File,
    Plugins,
    StoredModelName,
    TracksFile,
    Units,
    WarehouseName,
)
from tasks.ingest.columns import MIN_FEATURES, parse_mapping
from tasks.storage.urls import has_secrets

if TYPE_CHECKING:
    from tasks.prediction.batch import PredictionOutcome


def predict(
    tracks: TracksFile,
    out: File | None = None,
    warehouse: WarehouseName | None = None,
    plugins: Plugins = None,
    model: StoredModelName | None = None,
    columns: Columns = "",
    strict: bool = False,
    units: Units = "",
    min_features: Features = MIN_FEATURES,
    max_source_bytes: Bytes = SOURCE_BYTES,
) -> PredictionOutcome:
    """Predict every track of a file, except rows with bad values. The result says where the predictions are.

    Args:
        tracks: CSV, gzipped CSV or Parquet by path or URL, or sample[:ROWS]. Any of the audio features may be missing.
            A flow run keeps its parameters: give it no URL that holds secrets.
        out: .parquet, .csv or .csv.gz. By default named after the tracks, in the current directory.
        warehouse: where the models are, a folder or a URL. By default $MUSIC_WAREHOUSE, else ./warehouse.
        plugins: Python files that add models, feature sets and protocols (docs/plugins.md), besides those of
            $MUSIC_PLUGINS.
        model: predict with this model instead of the champion of each task that it predicts.
        columns: the file's own column names, as ours=theirs,..., in a TOML file of such pairs, or as the name of a
            public file (tidytuesday).
        strict: refuse the file if any row has bad values; without it, the other rows are predicted.
        units: convert columns in another unit, as energy=percent,duration_ms=seconds,... (docs/input.md).
        min_features: refuse a file with fewer of the 12 audio features.
        max_source_bytes: refuse a source that is larger, as it is or unpacked: bytes, or a size such as 20GB.
    """
    from tasks.ingest.units import parse_units
    from tasks.orchestration.prefect_tasks import predict_task
    from tasks.prediction.champions import TRAIN
    from tasks.storage.warehouse import Warehouse

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
    return outcome


def _print(outcome: PredictionOutcome) -> None:
    for line in outcome.summary:
        cli.tell(line)


def run(options: dict[str, Any]) -> Outcome:
    """Predicts as a flow if a Prefect server is configured, else without Prefect.

    Prefect's temporary server takes longer to start than most files take to predict. A URL with secrets is not given to
    Prefect, which stores the parameters of a flow run.
    """
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value() and not has_secrets(options["tracks"]):
        from flows import server

        return Outcome(facts=_facts(server.run_with_prefect(predict, options)))
    from tasks.ingest.units import parse_units
    from tasks.prediction.batch import predict_file
    from tasks.prediction.champions import TRAIN
    from tasks.storage.warehouse import Warehouse

    opened = Warehouse.to_read(options.pop("warehouse"), advice=TRAIN)
    columns, units = parse_mapping(options.pop("columns")), parse_units(options.pop("units"))
    max_bytes = options.pop("max_source_bytes")
    del options["plugins"]  # loaded
    outcome = predict_file(**options, warehouse=opened, columns=columns, units=units, max_bytes=max_bytes)
    _print(outcome)
    return Outcome(facts=_facts(outcome))


def _facts(outcome: PredictionOutcome) -> dict[str, Any]:
    return {
        "predictions": outcome.out,
        "rejects": outcome.rejects,
        "rows_read": outcome.rows_read,
        "rows_predicted": outcome.rows_predicted,
        "models": outcome.models,
        "drift": [one.facts for one in outcome.drifts],
    }


COMMAND = Command(
    name="predict",
    function=predict,
    run=run,
    kept="Nothing was written.",
    examples=("examples/new_songs.csv", "new_songs.csv --out predicted.csv --strict"),
)

if __name__ == "__main__":
    cli.run_app(COMMAND.app())
