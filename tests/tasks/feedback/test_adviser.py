from __future__ import annotations

import polars as pl
import pytest

from tasks.feedback.adviser import Adviser, Feedback
from tasks.feedback.track import SelectedTrack, selected_track
from tasks.prediction.batch import predict_file
from tasks.prediction.preparation import read_rows
from tasks.specs import AUDIO_FEATURES
from tasks.storage import duck
from tests.helpers.tracks import TRACK

GIVEN = TRACK | {"tempo": "", "key": "", "instance_id": "4"}
COLUMNS = {"key_code": "key", "mode_code": "mode"}  # as a file names them


@pytest.fixture(scope="module")
def adviser(trained) -> Adviser:
    return Adviser.load(trained, "xgboost", 1)


@pytest.fixture(scope="module")
def told(adviser, tmp_path_factory) -> Feedback:
    path = tmp_path_factory.mktemp("told") / "t.csv"
    pl.DataFrame([GIVEN]).write_csv(path)
    with selected_track(str(path), 4, {}, adviser.known, adviser.warehouse) as chosen:
        return adviser.feedback(chosen, 5)


def test_what_if_is_what_altered_tracks_are_predicted_as(told, trained, tmp_path) -> None:
    altered = [
        GIVEN | {COLUMNS.get(one.feature, one.feature): repr(value), "instance_id": str(number)}
        for one in told.what_if
        for number, value in enumerate(one.values)
    ]
    pl.DataFrame(altered).write_csv(tmp_path / "altered.csv")
    report = predict_file(str(tmp_path / "altered.csv"), str(tmp_path / "o.parquet"), trained, "xgboost")
    assert report.rows_predicted == len(altered) > 500
    predicted = pl.read_parquet(report.out)["popularity"].to_list()
    assert predicted == [points for one in told.what_if for points in one.popularity]


def test_what_if_covers_each_features_range_and_holds_the_track_itself(told, adviser) -> None:
    assert [one.feature for one in told.what_if] == list(AUDIO_FEATURES)
    clean = pl.read_parquet(adviser.known.standardized.parent.parent / "tracks_clean" / "*.parquet")
    for one in told.what_if:
        assert one.values == sorted(set(one.values))
        assert one.values[one.at] == told.values[one.feature]
        assert one.popularity[one.at] == told.prediction["popularity"]
        seen = clean.filter(split="train")[one.feature]
        assert seen.is_between(one.values[0], one.values[-1]).mean() > 0.97
        assert set(one.values) - {told.values[one.feature]} <= set(seen)
    curves = {one.feature: one for one in told.what_if}
    assert curves["mode_code"].values == [0.0, 1.0]
    assert len(curves["key_code"].values) == 12
    assert max(one.span for one in told.what_if) > 1


def test_missing_values_are_filled_and_named(told) -> None:
    assert told.filled == {"tempo", "key_code"}
    assert told.prediction["n_filled"] == 2
    assert told.values["tempo"] == pytest.approx(120, abs=10)  # the training rows' mean
    assert told.split is None


def test_a_known_track_is_told_with_what_it_is_listed_as(adviser, trained) -> None:
    stored = pl.read_parquet(adviser.known.tracks).row(3, named=True)
    with selected_track(None, stored["track_id"], {}, adviser.known, trained) as chosen:
        told = adviser.feedback(chosen, 3)
    assert (told.music_genre, told.listed_popularity) == (stored["music_genre"], stored["popularity"])
    assert told.split in {"train", "val", "test"}
    assert stored["track_id"] not in {row["track_id"] for row in told.similar}
    assert all(row["distance"] > 0 for row in told.similar)


def test_tracks_in_memory_get_the_same_feedback(told, adviser, trained) -> None:
    with duck.workspace(spill=trained.root / "tmp") as connection:
        read_rows(connection, [TRACK, GIVEN])
        again = adviser.feedback(SelectedTrack(connection, 2, is_known=False, source="memory"), 5)
    assert again.what_if == told.what_if
    assert again.similar == told.similar
    assert {name: value for name, value in again.prediction.items() if name != "row_number"} == {
        name: value for name, value in told.prediction.items() if name != "row_number"
    }
