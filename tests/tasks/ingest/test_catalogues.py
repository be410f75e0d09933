"""Catalogues of other people, as they are: each is read, and trains, or is refused in one line."""

from __future__ import annotations

import pytest

from tasks.errors import InputError
from tasks.features.build import build_features
from tasks.ingest.columns import parse_mapping
from tasks.ingest.read import ingest
from tasks.training.grid import plan_cells
from tasks.training.jobs import make_jobs
from tasks.training.needs import possible, required_columns
from tasks.training.train import train_cell

ALL, CORE = ["all"], ["core_audio"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "columns", "feature_sets", "read", "told"),
    [
        ("artist_lists", "music_genre=genre,artist_name=artists names", ALL, (6_588, 0, 0), "genre alone is predicted"),
        ("charts_chord", "music_genre=genre,key=chord", CORE, (1_556, 0, 86), "'Duration (ms)' for duration_ms"),
        ("genre_lists", "music_genre=genres,artist_name=artist", ALL, (6_398, 0, 54), "'[]' (54)"),
        ("songs_normalize", "music_genre=genre,artist_name=artist", ALL, (2_000, 0, 22), "list several genres"),
        ("tracks_114_subset", "tracks_114", ALL, (886, 0, 0), ""),
    ],
)
def test_a_catalogue_trains(name, columns, feature_sets, read, told, catalogues, warehouse) -> None:
    cells = plan_cells(["label_free"], "smoke", ["logistic_regression", "linear"], feature_sets, [42])
    source = str(catalogues / f"{name}.csv")
    snapshot = ingest(source, parse_mapping(columns), 0.05, warehouse, required=required_columns(cells))
    assert (snapshot.rows_read, snapshot.rejected_rows, snapshot.rows_without_genre) == read
    assert told in " ".join(snapshot.notes)
    assert snapshot.scales == ()
    tables = build_features(snapshot, "label_free", 20, warehouse)
    for job in make_jobs(possible(cells, snapshot), tables, "run", warehouse, 1):
        train_cell(job)
        assert job.is_stored


@pytest.mark.slow
def test_a_catalogue_without_a_feature_names_it(catalogues, warehouse) -> None:
    cells = plan_cells(["label_free"], "smoke", ["logistic_regression"], ["all"], [42])
    said = r"columns 'instrumentalness', 'mode' are missing\. Found: Index.*--feature-sets core_audio,rhythm\."
    with pytest.raises(InputError, match=said):
        ingest(
            str(catalogues / "charts_chord.csv"), {"music_genre": "Genre", "key": "Chord"}, 0.05, warehouse,
            required=required_columns(cells),
        )  # fmt: skip
