from __future__ import annotations

import csv
import errno
import gzip
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.errors import InputError, ModelFileError, UserError
from tasks.features.registry import read_registry
from tasks.ingest.columns import parse_mapping
from tasks.ingest.sample import generate, sample_file
from tasks.prediction import batch as predict_files
from tasks.prediction.batch import output_path, predict_file, writing
from tasks.prediction.candidates import candidates
from tasks.prediction.champions import Champion, predictors
from tasks.prediction.predictor import Predictor
from tasks.prediction.preparation import read_rows
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse
from tasks.training import drift
from tasks.training.drift import Drift
from tests.helpers.amounts import amount, mostly_long
from tests.helpers.tracks import TRACK, many, tracks

ROOT = Path(__file__).resolve().parents[3]
AUDIO = ("acousticness", "danceability", "duration_ms", "energy", "instrumentalness", "key", "liveness", "loudness",
         "mode", "speechiness", "tempo", "valence")  # fmt: skip


@pytest.fixture(scope="module")
def calibrated(trained):
    """The predictors of the tasks that a named model predicts, calibrated once."""

    @cache
    def of(model: str | None) -> dict[str, Champion]:
        chosen = predictors(trained, model, 1)
        return {task: one for task, one in chosen.items() if model in {None, one.candidate.cell.model}}

    return of


@pytest.fixture
def predicted(trained, calibrated, tmp_path, monkeypatch):
    """Predict a frame, or a file; by XGBoost, which loads at once, unless told otherwise."""
    monkeypatch.setattr(predict_files, "predictors", lambda _warehouse, model, _threads: calibrated(model))

    def run(source: pl.DataFrame | Path | str, **options) -> pl.DataFrame:
        if isinstance(source, pl.DataFrame):
            source.write_csv(tmp_path / "t.csv")
            source = tmp_path / "t.csv"
        options = {"model": "xgboost", "out": str(tmp_path / "p.parquet"), "min_features": 1} | options
        report = predict_file(str(source), warehouse=trained, **options)
        found = pl.read_parquet(report.out)
        assert report.rows_read == report.rows_predicted + report.rejected_rows + report.blank_rows
        assert report.rows_predicted == found.height
        return found

    return run


def reasons(tmp_path: Path) -> list[tuple[str, ...]]:
    with (tmp_path / "p.rejects.csv").open(newline="") as file:
        return [(row["line"], row["column_name"], row["error"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    "model", mostly_long(["xgboost", "gradient_boosting", "logistic_regression", "multitask_tuned"], "xgboost")
)
def test_the_benchmarks_own_rows_get_its_own_predictions(model, trained, predicted) -> None:
    """To the last bit, although the file has them in another order, among others and without their genre."""
    source = pl.read_csv(sample_file(trained, 3000), infer_schema=False).drop("music_genre", "popularity")
    ours = predicted(source, model=model)
    with duckdb.connect(str(trained.database), read_only=True) as connection:
        stored = connection.sql(
            f"select * from results.predictions where model = '{model}' and feature_set = 'all'"
        ).pl()
    both = stored.join(ours, on="track_id", suffix="_ours")
    assert both.height == stored.height > 500
    for task in stored["task"].unique():
        part = both.filter(task=task)
        if task == "genre":
            assert part["predicted_genre"].to_list() == part["predicted_genre_ours"].to_list()
        else:
            np.testing.assert_array_equal(part["y_pred"].clip(0, 100).to_numpy(), part["popularity"].to_numpy())
    assert {(ours[f"{task}_model"][0] or "").split("@")[0] for task in stored["task"].unique()} == {model}


def test_models_on_components_are_given_components(trained, predicted, calibrated, monkeypatch) -> None:
    """The prepared rows are the stored tables' rows, to the last bit."""
    source = pl.read_csv(sample_file(trained, 3000), infer_schema=False)
    [in_pca] = [
        one
        for one in candidates(trained)
        if (one.task, one.cell.model, one.cell.feature_set) == ("popularity", "xgboost", "pca")
    ]
    swapped = replace(calibrated("xgboost")["popularity"], candidate=in_pca)
    ours = predicted(source)
    monkeypatch.setattr(predict_files, "predictors", lambda *_: {"popularity": swapped})
    assert not predicted(source).equals(ours)
    ours = predicted(source)
    with duckdb.connect(str(trained.database), read_only=True) as connection:
        stored = connection.sql(
            "select track_id, y_pred from results.predictions "
            "where model = 'xgboost' and feature_set = 'pca' and task = 'popularity'"
        ).pl()
    both = stored.join(ours, on="track_id")
    np.testing.assert_array_equal(both["y_pred"].clip(0, 100).to_numpy(), both["popularity"].to_numpy())


def test_what_a_row_says(predicted) -> None:
    row = predicted(tracks({}, instance_id="7"), model=None).row(0, named=True)
    assert (row["track_id"], row["row_number"], row["n_filled"]) == (7, 1, 0)
    assert row["is_generated_model"]
    assert 1 >= row["probability"] >= row["second_probability"] >= row["third_probability"] > 0
    assert len({row["predicted_genre"], row["second_genre"], row["third_genre"]}) == 3
    assert 0 <= row["popularity_low"] < row["popularity"] < row["popularity_high"] <= 100


def test_columns_and_values_may_be_missing_in_any_order(trained, predicted) -> None:
    full = predicted(tracks({}, {}))
    shuffled = predicted(tracks({}, {}).select("valence", *reversed([n for n in TRACK if n != "valence"])))
    assert shuffled.equals(full)
    some = predicted(tracks({}, {"tempo": "?"}, {"energy": ""}, {"mode": "?", "valence": " "}).drop("liveness", "key"))
    assert some["n_filled"].to_list() == [2, 3, 3, 4]
    assert some["is_unlike_training"].to_list() == [False] * 4
    only = predicted(pl.DataFrame({"tempo": ["120", "90"]}))
    assert only["n_filled"].to_list() == [11, 11]
    assert only["track_id"].to_list() == [1, 2]


def test_a_missing_value_is_the_stored_one(trained, predicted) -> None:
    """Left out or written out: the same prediction."""
    [path] = {row.path for row in read_registry(trained) if row.table_name == "features.fill_values"}
    learnt = dict(pl.read_parquet(trained.root / path).select("feature_name", "value").iter_rows())
    assert set(learnt) == {name.replace("key", "key_code").replace("mode", "mode_code") for name in AUDIO}
    for name in amount(("key", "tempo"), AUDIO):
        value = repr(learnt[{"key": "key_code", "mode": "mode_code"}.get(name, name)]).removesuffix(".0")
        left, written = predicted(tracks({name: ""})), predicted(tracks({name: value}))
        assert left.drop("n_filled").equals(written.drop("n_filled")), name


def test_unlike_anything_in_training(predicted) -> None:
    frame = tracks(
        {}, {"duration_ms": "200"}, {"energy": "55"}, {"loudness": "-6.5e6"}, {"energy": "0.01", "loudness": "3"}
    )
    assert predicted(frame)["is_unlike_training"].to_list() == [False, True, True, True, True]


def test_bad_values_are_rejects_by_name(predicted, tmp_path) -> None:
    frame = tracks({}, {"energy": "loud"}, {"mode": "Dorian"}, {"tempo": "-5", "key": "H"}, {"instance_id": "x"},
                   dict.fromkeys(AUDIO, ""), {"popularity": "many"})  # fmt: skip
    found = predicted(frame)
    assert found["row_number"].to_list() == [1, 7]  # what is predicted need not be there, or make sense
    assert reasons(tmp_path) == [
        ("3", "energy", "not a finite number: 'loud'"),
        ("4", "mode", "not Major, Minor, true, false, 1 or 0: 'Dorian'"),
        ("5", "key", "not a key name or a pitch class 0..11, or in another mode than column mode says: 'H'"),
        ("5", "tempo", "not a positive number: '-5'"),
        ("6", "instance_id", "not a whole number: 'x'"),
        ("7", "audio features", "none of the twelve is there"),
    ]
    predicted(tracks({}))
    assert not (tmp_path / "p.rejects.csv").exists()


@pytest.mark.parametrize(("suffix", "place"), [("csv", "line 4"), ("parquet", "row 3")])
def test_one_bad_row_is_told_and_the_others_are_predicted(suffix, place, predicted, trained, tmp_path) -> None:
    frame = tracks({}, {}, {"energy": "loud"}, {}, {})
    expected = predicted(frame.filter(energy="0.3"))
    frame.write_csv(tmp_path / "t.csv") if suffix == "csv" else frame.write_parquet(tmp_path / "t.parquet")
    report = predict_file(str(tmp_path / f"t.{suffix}"), str(tmp_path / "p.parquet"), trained, "xgboost")
    assert pl.read_parquet(report.out).drop("row_number").equals(expected.drop("row_number"))
    assert report.summary[0].startswith("4 of 5 rows predicted") and ", 1 rejected" in report.summary[0]
    assert report.summary[-2:] == [
        f"not predicted: 1 row with bad values. The first: {place}, energy: not a finite number: 'loud'.",
        f"left out, with reasons: {tmp_path / 'p.rejects.csv'}",
    ]


def test_the_first_bad_values_are_quoted_and_blank_rows_are_not(predicted, trained, tmp_path) -> None:
    blank = dict.fromkeys([*AUDIO, "artist_name", "track_name"], "")
    tracks(blank, {"energy": "loud", "mode": "x"}, {"tempo": "-5"}, {"key": "H"}, {}).write_csv(tmp_path / "t.csv")
    report = predict_file(str(tmp_path / "t.csv"), str(tmp_path / "p.parquet"), trained, "xgboost")
    [told] = [line for line in report.summary if line.startswith("not predicted: 3 rows")]
    assert re.findall(r"line \d, \w+", told) == ["line 3, energy", "line 3, mode", "line 4, tempo"]
    assert [line for line, *_ in reasons(tmp_path)] == ["2", "3", "3", "4", "5"]


@pytest.mark.parametrize(
    ("good", "strict", "told"),
    [
        (
            1,
            True,
            r"t.csv: 2 of 3 rows have bad values, and --strict allows none\..*, or leave out --strict",
        ),
        (0, True, r"t.csv: 2 of 2 rows have bad values, so none can be predicted\..*Correct these rows\.$"),
        (0, False, r"t.csv: 2 of 2 rows have bad values, so none can be predicted\..*Correct these rows\.$"),
    ],
)
def test_a_file_is_refused_if_no_row_is_good_or_by_strict_if_one_is_bad(
    good, strict, told, predicted, tmp_path, monkeypatch
) -> None:
    blank = dict.fromkeys([*AUDIO, "artist_name", "track_name"], "")
    frame = tracks(blank, {"energy": "loud"}, *[{}] * good, {"tempo": "-5"})
    monkeypatch.setattr(predict_files, "SOME", 1)
    with pytest.raises(InputError, match=told) as refusal:
        predicted(frame, strict=strict)
    rejects = tmp_path / "p.rejects.csv"
    assert "The first: line 3, energy: not a finite number: 'loud'; line" in str(refusal.value)
    assert f"The first 1 are in {rejects}" in str(refusal.value)
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv", rejects.name}
    assert [line for line, *_ in reasons(tmp_path)] == ["3"]


def test_strict_predicts_a_file_without_bad_values(predicted) -> None:
    blank = dict.fromkeys([*AUDIO, "artist_name", "track_name"], "")
    assert predicted(tracks({}, {"tempo": "?"}, blank), strict=True).equals(predicted(tracks({}, {"tempo": "?"})))


def test_rejects_found_part_by_part_are_the_same(predicted, tmp_path, monkeypatch) -> None:
    changes = [{"energy": "loud"} if number % 3 == 0 else {} for number in range(40)]
    frame = tracks(*changes, dict.fromkeys([*AUDIO, "artist_name", "track_name"], ""), {"instance_id": "x"})
    whole = predicted(frame), reasons(tmp_path)
    monkeypatch.setattr(predict_files, "PART_ROWS", 7)
    parts = predicted(frame), reasons(tmp_path)
    assert parts[0].equals(whole[0])
    assert parts[1] == whole[1]
    monkeypatch.setattr(predict_files, "SOME", 2)
    with pytest.raises(InputError, match=r"15 of 41 rows have bad values.*The first 2 are in"):
        predicted(frame, strict=True)
    assert [line for line, *_ in reasons(tmp_path)] == ["2", "5"]


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {name: st.sampled_from(["", "?", "0.5", "7", "-1", "x"]) for name in ("energy", "tempo", "key", "mode")}
        ),
        min_size=1,
        max_size=12,
    ),
    batch=st.integers(1, 5),
)
@settings(max_examples=amount(5, 25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_row_is_predicted_or_rejected(rows, batch, trained, predicted, tmp_path) -> None:
    rows = [*rows, {"energy": "0.5", "tempo": "7", "key": "7", "mode": ""}]
    pl.DataFrame(rows).write_csv(tmp_path / "t.csv", quote_style="always")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict_files, "BATCH_ROWS", batch)
        report = predict_file(
            str(tmp_path / "t.csv"), str(tmp_path / "p.parquet"), trained, "gradient_boosting", min_features=1
        )
    found = pl.read_parquet(report.out)["row_number"].to_list()
    rejected = set()
    if report.rejects:
        rejected = set(pl.read_csv(report.rejects)["row_number"].to_list())
    assert sorted([*found, *rejected]) == list(range(1, len(rows) + 1))
    assert found == sorted(found)


def test_the_batch_does_not_matter(predicted, monkeypatch) -> None:
    whole = predicted(many(250))
    monkeypatch.setattr(predict_files, "BATCH_ROWS", 7)
    assert predicted(many(250)).equals(whole)


def test_csv_gzip_and_parquet_in_and_out(trained, predicted, tmp_path) -> None:
    frame = many(40)
    expected = predicted(frame)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(frame.write_csv().encode()))
    frame.write_parquet(tmp_path / "t.parquet")
    for source in ("t.csv.gz", "t.parquet"):
        assert predicted(tmp_path / source).equals(expected)
    for suffix in (".csv", ".csv.gz"):
        report = predict_file(str(tmp_path / "t.csv"), str(tmp_path / f"o{suffix}"), trained, "xgboost")
        read = pl.read_csv(report.out, schema_overrides=dict(expected.schema))
        assert read.equals(expected)


def test_rows_in_memory_are_predicted_as_those_of_a_file(trained, predicted, calibrated) -> None:
    rows = [{"energy": 0.1 + 0.2, "tempo": 99, "key": "Eb"}, {"energy": "loud"}, {}, {"instance_id": "9", "mode": "1"}]
    frame = pl.DataFrame([{name: None if v is None else str(v) for name, v in row.items()} for row in rows],
                         infer_schema_length=None)  # fmt: skip
    frame = frame.with_columns(instance_id=pl.coalesce("instance_id", (pl.int_range(pl.len()) + 1).cast(pl.String)))
    expected = predicted(frame)
    predictor = Predictor.load(calibrated("xgboost"), trained, 1)
    with duck.workspace(trained.root / "tmp") as connection:
        assert read_rows(connection, rows) == 2
        assert pl.from_arrow(predictor.predict(predictor.prepare(connection, 1, len(rows)))).equals(expected)
    assert expected["track_id"].to_list() == [1, 9]


def test_hostile_names_are_only_data(predicted, tmp_path) -> None:
    evil = "x'); drop table raw.tracks; --\""
    frame = tracks({"energy": "0.25"}, {}).rename({"energy": evil})
    (tmp_path / "e'vil[1]*.csv").write_text(frame.write_csv())
    frame.write_parquet(tmp_path / "e'vil.parquet")
    expected = predicted(tracks({"energy": "0.25"}, {}))
    for name in ("e'vil[1]*.csv", "e'vil.parquet"):
        assert predicted(tmp_path / name, columns={"energy": evil}).equals(expected)


def test_a_file_without_rows_and_one_without_features(predicted, tmp_path) -> None:
    with pytest.raises(InputError, match="has a header but no rows"):
        predicted(tracks({}).clear())
    with pytest.raises(InputError, match=r"0 of the 12 audio features are there; 1 are needed.*Found: artist, title"):
        predicted(pl.DataFrame({"artist": ["a"], "title": ["b"]}))
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(InputError, match="is empty"):
        predicted(tmp_path / "empty.csv")
    with pytest.raises(InputError, match="column 'loud' is missing"):
        predicted(tracks({}), columns={"loudness": "loud"})


def test_features_that_are_not_there_are_named_and_too_few_are_refused(predicted, trained, tmp_path) -> None:
    frame = tracks({}, {"liveness": "NA"}, {"liveness": "-"})
    five = frame.select("energy", "tempo", "key", "mode", "valence")
    with pytest.raises(InputError, match=r"5 of the 12 .* 6 are needed.*Not there: acousticness.*--min-features"):
        predicted(five, min_features=6)
    assert predicted(five, min_features=5)["n_filled"].to_list() == [7] * 3
    with pytest.raises(UserError, match=r"--min-features 13: must be from 1 to 12"):
        predicted(five, min_features=13)
    named = frame.rename({name: f" {name.title().replace('_', '-')}" for name in AUDIO}).drop(" Loudness")
    named.with_columns(pl.lit("N/A").alias(" Liveness")).write_csv(tmp_path / "t.csv")
    report = predict_file(str(tmp_path / "t.csv"), str(tmp_path / "p.parquet"), trained, "xgboost")
    assert any("'Duration-Ms' for duration_ms" in line for line in report.notes)
    assert "audio features without a value, filled for every row: liveness, loudness" in report.notes
    assert pl.read_parquet(report.out)["n_filled"].to_list() == [2] * 3


def test_values_on_another_scale_are_told_and_converted_if_asked(predicted, trained, tmp_path) -> None:
    frame = many(60).filter(pl.col("tempo") != "?", ~pl.col("duration_ms").str.starts_with("-"))
    expected = predicted(frame)
    scaled = frame.with_columns(
        (pl.col("energy", "valence").cast(pl.Float64) * 100).round(6).cast(pl.String),
        (pl.col("duration_ms").cast(pl.Float64) / 1000).cast(pl.String),
    )
    scaled.write_csv(tmp_path / "s.csv")
    report = predict_file(str(tmp_path / "s.csv"), str(tmp_path / "p.parquet"), trained, "xgboost")
    told = " ".join(report.notes)
    assert "--units energy=percent,valence=percent" in told
    assert "--units duration_ms=seconds" in told
    assert f"of {frame.height} values" in told
    units = {"energy": "percent", "valence": "percent", "duration_ms": "seconds"}
    converted = predicted(tmp_path / "s.csv", units=units)
    assert converted["predicted_genre"].equals(expected["predicted_genre"])
    assert (converted["popularity"] - expected["popularity"]).abs().max() < 0.5
    slow = frame.with_columns(tempo=pl.lit("25"))  # possible, but no training row has it
    slow.write_csv(tmp_path / "s.csv")
    report = predict_file(str(tmp_path / "s.csv"), str(tmp_path / "p.parquet"), trained, "xgboost")
    assert any("outside the range of the training rows: tempo (25 to 25" in line for line in report.notes)


def test_where_the_output_goes(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for source in ("https://host/a/songs.csv.gz?key=1", "/data/songs.parquet", "songs.csv"):
        assert output_path(source, None) == tmp_path / "songs.predictions.parquet"
    assert output_path("sample:10", None) == tmp_path / "sample-10.predictions.parquet"
    for out, message in (("o.xlsx", "must end in one of"), ("no/where.csv", "cannot be written"), ("t.csv", "itself")):
        with pytest.raises(UserError, match=message):
            output_path("t.csv", out)


def test_a_changed_model_file_is_not_used(trained) -> None:
    chosen = predictors(trained, "gradient_boosting", 1)
    path = trained.root / chosen["popularity"].candidate.model_path
    kept = path.read_bytes()
    path.write_bytes(kept + b"x")
    try:
        with pytest.raises(ModelFileError, match="SHA-256 differs"):
            Predictor.load(chosen, trained, 1)
    finally:
        path.write_bytes(kept)


def test_a_write_that_fails_leaves_nothing(tmp_path) -> None:
    for name in ("o.parquet", "o.csv", "o.csv.gz"):
        with pytest.raises(RuntimeError), writing(tmp_path / name, pa.schema([("n", pa.int64())])) as write:
            write(pa.table({"n": [1]}))
            raise RuntimeError
    assert list(tmp_path.iterdir()) == []


KILLED = """
import sys, time
from pathlib import Path
import pyarrow as pa
from tasks.prediction.batch import writing
with writing(Path(sys.argv[1]), pa.schema([("n", pa.int64())])) as write:
    write(pa.table({"n": list(range(100_000))}))
    print("written", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_killed_while_writing_leaves_no_half_file(tmp_path) -> None:
    target = tmp_path / "o.parquet"
    command = [sys.executable, "-c", KILLED, str(target)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    assert [left.suffix for left in tmp_path.iterdir()] == [".tmp"]
    with writing(target, pa.schema([("n", pa.int64())])) as write:
        write(pa.table({"n": [1]}))
    assert list(tmp_path.iterdir()) == [target]  # the next run cleans up
    assert pl.read_parquet(target)["n"].to_list() == [1]


def test_the_columns_of_a_public_file_are_known_of_new_tracks_without_targets(predicted) -> None:
    frame = tracks({}, {}).drop("popularity", "music_genre").rename({"artist_name": "track_artist"})
    assert predicted(frame, columns=parse_mapping("tidytuesday")).height == 2


@pytest.mark.long
def test_the_command_needs_no_prefect_server(trained, tmp_path) -> None:
    tracks({}, {"tempo": ""}, {"energy": "loud"}).write_csv(tmp_path / "t.csv")
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"} | {"PREFECT_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "flows.predict", str(tmp_path / "t.csv"), "--warehouse", str(trained.root), "--model",
         "xgboost", "--out", str(tmp_path / "o.csv")],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "temporary server" not in done.stderr
    assert "GENERATED DATA" in done.stderr
    assert str(tmp_path / "o.csv") in done.stderr
    assert "not predicted: 1 row with bad values. The first: line 4, energy" in done.stderr
    assert pl.read_csv(tmp_path / "o.csv")["n_filled"].to_list() == [0, 1]


@pytest.fixture
def drift_of(trained, calibrated, tmp_path, monkeypatch):
    """Predict a frame in a warehouse; how it differs from the training rows, and what is said."""
    monkeypatch.setattr(predict_files, "predictors", lambda _warehouse, model, _threads: calibrated(model))

    def run(frame: pl.DataFrame) -> tuple[Drift, list[str]]:
        frame.drop("music_genre", "popularity").write_csv(tmp_path / "drifting.csv")
        found = predict_file(str(tmp_path / "drifting.csv"), str(tmp_path / "p.parquet"), trained, model="xgboost")
        [drift] = found.drifts  # both models were trained on the same rows
        return drift, found.summary

    return run


def test_a_predicted_file_is_compared_with_the_training_rows(drift_of, trained) -> None:
    known = len(trained.files("drift", "predictions"))
    new = pl.concat(generate(700, seed=7))
    alike, said = drift_of(new)
    assert (alike.kind, alike.status, alike.drifted) == ("predictions", "stable", [])
    assert not any("DRIFT" in line for line in said)
    few, said = drift_of(new.head(5))
    assert (few.status, few.drifted) == ("too few rows", [])
    scaled = (pl.col("loudness").cast(pl.Float64) / 3).cast(pl.String)
    unlike, said = drift_of(new.with_columns(loudness=scaled, key=pl.lit(None)))
    assert {(one.column_name, one.statistic) for one in unlike.drifted} >= {
        ("loudness", "distribution"), ("key_code", "missing"),
    }  # fmt: skip
    assert {one.column_name for one in unlike.drifted} == {"loudness", "key_code"}
    assert sum("DRIFT: drifting.csv differs from the models' training rows. large:" in line for line in said) == 1
    assert unlike.facts["status"] == "large"
    json.dumps(unlike.facts, allow_nan=False)
    stored = drift.stored(trained)
    rows = pl.from_arrow(stored).filter(source="drifting.csv")
    assert rows["measured_at"].n_unique() == len(trained.files("drift", "predictions")) - known == 3
    assert rows.filter(pl.col("status").is_in(["moderate", "large"]))["column_name"].unique().sort().to_list() == [
        "key_code", "loudness",
    ]  # fmt: skip


def test_a_warehouse_that_cannot_be_written_to_predicts_and_says_that_nothing_is_kept(drift_of, monkeypatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Warehouse, "write_rows", refuses)
    found, said = drift_of(pl.concat(generate(700, seed=7)))
    assert found.status == "stable"
    assert "drift: not kept for results.drift ([Errno 30] Read-only file system)" in said
