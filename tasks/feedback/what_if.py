"""What if: a track's predicted popularity along each feature's range, with all other features held.

Copies of the track with one feature changed are prepared and predicted like any other track. The result shows how the
model's prediction changes. That is association in the data, not proof that a louder track would be heard more.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from tasks.prediction.candidates import lineage
from tasks.prediction.predictor import Model, Predictor
from tasks.prediction.preparation import prepare
from tasks.specs import AUDIO_FEATURES
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse

SHARES = [number / 100 for number in range(1, 100)]  # quantiles of the training rows at which a feature is tried
CAUTION = (
    "Association, not cause: this is how the model's prediction changes when one number is changed and the others are "
    "held, not what would happen to the popularity of a track that is made differently."
)


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Predicted popularity along one feature's range, from the 1st to the 99th percentile of the training rows."""

    feature: str
    values: list[float]  # in the feature's unit, ascending, including the track's own
    popularity: list[float]
    at: int  # position of the track's own value

    @property
    def lowest(self) -> int:
        """Position of the lowest predicted popularity."""
        return self.popularity.index(min(self.popularity))

    @property
    def highest(self) -> int:
        """Position of the highest predicted popularity."""
        return self.popularity.index(max(self.popularity))

    @property
    def span(self) -> float:
        """Highest minus lowest predicted popularity, in points."""
        return max(self.popularity) - min(self.popularity)


def what_if(connection: duckdb.DuckDBPyConnection, row_number: int, model: Model, warehouse: Warehouse) -> list[WhatIf]:
    """Returns what-if predictions for each audio feature, in the order of AUDIO_FEATURES.

    Args: connection: a workspace with the track as row `row_number` of staging.typed_tracks. model: predicts
        popularity.
    """
    prepare(connection, model.fitted, row_number, row_number)
    own = own_values(connection, "features.tracks_clean")
    clean = lineage(model.champion.candidate.feature_version, warehouse)["features.tracks_clean"]
    duck.view(connection, "known_clean", warehouse.here(clean.path))
    ranges = connection.sql(duck.render("predict/ranges"), params={"shares": SHARES}).to_arrow_table()
    query = "select * from staging.typed_tracks where row_number = $row"
    given = connection.sql(query, params={"row": row_number}).to_arrow_table()
    alone = Predictor({"popularity": model.champion}, {model.champion.candidate.result: model})
    with duck.workspace(spill=warehouse.scratch) as altered:
        altered.register("ranges", ranges)
        altered.execute("create view features.ranges as select * from ranges")
        altered.register("given_track", given)
        altered.execute(f"create table staging.typed_tracks as {duck.render('predict/altered_tracks')}")
        altered.execute("create table raw.rejects as select 0 as row_number where false")
        predicted = alone.predict(alone.prepare(altered, 1, ranges.num_rows))["popularity"].to_pylist()
    points: dict[str, dict[float, float]] = {name: {} for name in AUDIO_FEATURES}
    for row, popularity in zip(ranges.to_pylist(), predicted, strict=True):
        points[row["feature_name"]][row["value"]] = popularity
    return [
        WhatIf(name, list(found), list(found.values()), list(found).index(own[name] or 0.0))
        for name, found in points.items()
    ]


def own_values(connection: duckdb.DuckDBPyConnection, table: str) -> dict[str, float | None]:
    """Returns the audio features of a workspace's only track. Args: table: for example features.tracks_clean."""
    [values] = connection.sql(f"select {', '.join(AUDIO_FEATURES)} from {table}").fetchall()
    return dict(zip(AUDIO_FEATURES, values, strict=True))
