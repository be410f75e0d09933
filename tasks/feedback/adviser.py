"""Feedback on one track: its prediction, what pushed it up or down, what-if predictions, and similar known tracks.

To use it from Python, call `Adviser.load` once and then `Adviser.feedback` for each track. A track is a row of
staging.typed_tracks in a DuckDB workspace. `tasks.feedback.track.selected_track` creates it from a file or a known
track, `tasks.prediction.preparation.read_rows` from tracks in memory.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from tasks.errors import one_line
from tasks.feedback.explain import Explainer, Reasons, explained
from tasks.feedback.nearest import Known, known_tracks, nearest
from tasks.feedback.track import SelectedTrack
from tasks.feedback.what_if import WhatIf, own_values, what_if
from tasks.prediction.candidates import lineage
from tasks.prediction.champions import Champion, predictors
from tasks.prediction.predictor import Predictor
from tasks.prediction.preparation import prepare
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse


@dataclass(frozen=True, slots=True)
class Because:
    """Why a task is predicted as it is: the champion's prediction explained, or that of another model instead."""

    champion: Champion
    explainer: Explainer | None  # None: no stored model can be explained
    reasons: Reasons | None

    @property
    def is_champion(self) -> bool:
        """Whether the explained model is the champion."""
        return self.explainer is not None and self.explainer.candidate.result == self.champion.candidate.result


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """The feedback on one track."""

    artist_name: str | None
    track_name: str | None
    source: str
    is_known: bool
    music_genre: str | None  # the listed genre of a known track
    listed_popularity: float | None
    split: str | None  # of a known track when the champion was trained
    values: dict[str, float]  # of the 12 audio features, filled if missing
    filled: frozenset[str]  # those that were missing
    prediction: dict[str, Any]  # a row of tasks.prediction.predictor.PREDICTED
    because: dict[str, Because]  # by task
    what_if: list[WhatIf]  # empty if no model predicts popularity
    similar: list[dict[str, Any]]  # rows of sql/predict/nearest.sql
    n_known: int
    known_source: str
    is_generated: bool  # whether a model or the known tracks come from the generated sample

    @property
    def title(self) -> str:
        """Title and artist of the track, in one line."""
        return title(self.artist_name, self.track_name)


def title(artist_name: str | None, track_name: str | None) -> str:
    """Returns title and artist of a track, in one line of printable characters."""
    return one_line(f"{track_name or 'a track without a title'} by {artist_name or 'an unknown artist'}")


@dataclass(frozen=True, slots=True)
class Adviser:
    """The loaded champions, explainers and known tracks, which give feedback on any track."""

    predictor: Predictor
    explainers: dict[str, Explainer | None]  # by task
    known: Known
    warehouse: Warehouse

    @classmethod
    def load(cls, warehouse: Warehouse, model: str | None = None, threads: int | None = None) -> Adviser:
        """Loads champions, explainers and known tracks.

        Args: model: name of a model that replaces the champion of each task it predicts. threads: threads of each
            model; by default one per core.

        Raises: UserError: there is no champion, `model` is unknown or not stored, or there are no known tracks.
        """
        threads = threads or os.cpu_count() or 1
        champions = predictors(warehouse, model, threads)
        explainers: dict[str, Explainer | None] = {}
        for task, champion in champions.items():
            candidate = explained(champion, warehouse)
            explainers[task] = Explainer.load(candidate, champion, warehouse, threads) if candidate else None
        return cls(Predictor.load(champions, warehouse, threads), explainers, known_tracks(warehouse), warehouse)

    def feedback(self, chosen: SelectedTrack, k: int = 10) -> Feedback:
        """Returns the feedback on a track.

        Args: k: number of nearest known tracks to list.

        Raises: UserError: the track is rejected, or k is out of range.
        """
        connection, row = chosen.connection, chosen.row_number
        similar = nearest(connection, self.known, row, k, is_known=chosen.is_known).to_pylist()
        because = {}
        for task, champion in self.predictor.by_task.items():
            explainer = self.explainers[task]
            reasons = explainer.reasons(prepare(connection, explainer.fitted, row, row))[0] if explainer else None
            because[task] = Because(champion, explainer, reasons)
        points: list[WhatIf] = []
        if "popularity" in because:
            model = self.predictor.models[because["popularity"].champion.candidate.result]
            points = what_if(connection, row, model, self.warehouse)
        [prediction] = self.predictor.predict(self.predictor.prepare(connection, row, row)).to_pylist()
        values = own_values(connection, "features.tracks_clean")
        query = "select artist_name, track_name, music_genre, popularity from staging.typed_tracks where row_number = ?"
        [(artist, name, genre, popularity)] = connection.execute(query, [row]).fetchall()
        return Feedback(
            artist_name=artist,
            track_name=name,
            source=chosen.source,
            is_known=chosen.is_known,
            music_genre=genre,
            listed_popularity=popularity,
            split=self._split(prediction["track_id"]) if chosen.is_known else None,
            values={name: float(value or 0.0) for name, value in values.items()},
            filled=frozenset(
                name for name, value in own_values(connection, "staging.stg_tracks").items() if value is None
            ),
            prediction=prediction,
            because=because,
            what_if=points,
            similar=similar,
            n_known=self.known.n_rows,
            known_source=self.known.source,
            is_generated=self.known.is_generated or prediction["is_generated_model"],
        )

    def _split(self, track_id: int) -> str | None:
        """Returns the split of a known track when the champion was trained; None if it was not there."""
        champion = next(iter(self.predictor.by_task.values()))
        assigned = lineage(champion.candidate.feature_version, self.warehouse)["features.split_assignment"]
        with duck.workspace(spill=self.warehouse.scratch) as connection:
            duck.view(connection, "assigned", self.warehouse.here(assigned.path))
            found = connection.execute("select split from assigned where track_id = ?", [track_id]).fetchall()
        return str(found[0][0]) if found else None
