"""The check of the committed ratios, what is kept, whether others prepare the same, and whether every script runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from benchmarks import engines, peer_fits, peers, records, sample_statistics, scale, suite
from benchmarks.suite import Measured, check
from tasks.ingest.sample import write_sample
from tests.helpers.amounts import mostly_long
from tests.helpers.commands import query

ROOT = Path(__file__).resolve().parents[1]
OF_XGBOOST = "model = 'xgboost' and feature_set = 'all' and split = 'test'"


@pytest.fixture
def committed(tmp_path, monkeypatch) -> Path:
    """Two parts' figures. Returns: their file."""
    monkeypatch.setattr(suite, "RESULTS", tmp_path)
    monkeypatch.setattr(suite, "PARTS", {"a": None, "b": None})
    suite.write({"a": [Measured("slow", "x", 1.0, 1.0, limit=1.8)], "b": [Measured("steady", "x", 2.0, 1.0)]})
    return tmp_path / "bench.json"


@pytest.mark.parametrize(
    ("seconds", "exit_code", "tries"),
    [([1.9], 0, 1), ([2.1, 1.9], 0, 2), ([2.1, 9.0, 2.0], 0, 3), ([2.1, 2.2, 2.3, 2.4, 2.5], 1, 5)],
)
def test_a_ratio_must_be_worse_five_times(seconds, exit_code, tries, committed, monkeypatch, capsys) -> None:
    asked: list[tuple[list[str], list[str]]] = []

    def measure(parts: list[str], only: list[str]) -> dict[str, list[Measured]]:
        asked.append((parts, only))
        found = {"a": [Measured("slow", "x", seconds[len(asked) - 1], 1.0)], "b": [Measured("steady", "x", 2.9, 1.0)]}
        return {part: found[part] for part in parts}

    monkeypatch.setattr(suite, "measure", measure)
    assert check(["a", "b"]) == exit_code
    assert asked == [(["a", "b"], []), *[(["a"], ["slow"])] * (tries - 1)]
    assert ("slow: 2.10 at best, 1.00 committed" in capsys.readouterr().err) == bool(exit_code)


@pytest.mark.parametrize(("seconds", "exit_code"), [(1.8, 0), (1.9, 1)])
def test_what_is_over_its_limit_is_not_written(seconds, exit_code, committed, monkeypatch, capsys) -> None:
    before = committed.read_text()
    monkeypatch.setattr(sys, "argv", ["suite", "--parts", "a"])
    monkeypatch.setattr(suite, "measure", lambda _: {"a": [Measured("slow", "x", seconds, 5.0, limit=1.8)]})
    assert suite.main() == exit_code
    assert (committed.read_text() == before) == bool(exit_code)
    assert ("slow: 1.9 s, of which 1.8 are allowed" in capsys.readouterr().err) == bool(exit_code)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([("slow", "x"), ("new", "x")], "new: is not in bench.json."),
        ([], "slow: is in bench.json, but is not measured any more."),
        ([("slow", "y")], "slow: is measured beside something else now."),
    ],
)
def test_what_is_measured_is_what_is_committed(found, said, committed, monkeypatch, capsys) -> None:
    monkeypatch.setattr(suite, "measure", lambda *_: {"a": [Measured(*names, 0.5, 1.0) for names in found]})
    assert check(["a"]) == 1
    assert capsys.readouterr().err.splitlines() == [said, "Commit a new `make bench`."]


def test_a_run_of_some_parts_leaves_the_others_as_they_were(committed, monkeypatch) -> None:
    before = json.loads(committed.read_text())
    monkeypatch.setattr(records.platform, "machine", lambda: "another")
    suite.write({"b": [Measured("steadier", "x", 4.0, 1.0)]})
    after = json.loads(committed.read_text())
    assert after["a"] == before["a"]
    assert [(row["name"], row["ratio"]) for row in after["b"]["measured"]] == [("steadier", 4.0)]
    assert (after["a"]["machine"], after["b"]["machine"]) == (before["a"]["machine"], "another")
    page = committed.with_suffix(".md").read_text()
    assert "- a: measured on" in page and "- b: measured on" in page and "(another)" in page
    assert "| a | slow | x | 1.00 |" in page and "| b | steadier | x | 4.00 |" in page and "steady" not in page


def test_the_committed_figures_are_of_the_parts_that_there_are() -> None:
    assert set(records.read(records.RESULTS / "bench.json")) <= set(suite.PARTS)


def test_recorded_sizes_add_up_over_runs(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(scale, "RESULTS", tmp_path)
    for n, limit in ((1_000, "2GB"), (10_000, "2GB"), (100_000, "8GB"), (10_000, "4GB")):
        row = {"rows": n, "engine": "music", "protocol": "published", "limit": limit, "peak_mib": 9.0, "disk_mib": 9.0}
        scale.record([row | {"seconds": n / 1_000, "cpu_seconds": n**2 / 1e6}])
    rows = json.loads((tmp_path / "scale.json").read_text())
    assert [(row["rows"], row["limit"]) for row in rows.values()] == [(1_000, "2GB"), (10_000, "4GB"), (100_000, "8GB")]
    page = (tmp_path / "scale.md").read_text()
    assert "| published | 10,000 | music | 4GB | 10.0 | 100.0 | 100 | 9 | 9 |" in page
    assert "music, published, 3 sizes: seconds grow with rows ** 1.00, CPU seconds with rows ** 2.00" in page


@pytest.fixture
def tracks_file(tmp_path) -> Path:
    write_sample(tmp_path / "tracks.csv", 2_000)
    return tmp_path / "tracks.csv"


SCRIPTS = [
    (
        "intervals {home}",
        r"(?s)[1-9]\d* cells: intervals [\d.]+ s, .* MiB a process\ncomparisons and ledger: [\d.]+ s",
    ),
    ("features {csv} --runs 1", r"this project [\d.]+ s, the study's scripts [\d.]+ s\nratio [\d.]+ .* 1 pairs"),
    ("increment --rows 2000 --more 300 --folder {out}", r"(?s)of full\nfull .*\nrelearned .*\nkept .* [\d.]+$"),
    ("nearest {home} --tracks 2", r"(?s)known tracks: SQL [\d.]+ s, NumPy .*\nratio, .*: [\d.]+\nmemory: SQL"),
    ("api {home} --model xgboost --seconds 0.01", r"(?s)plain predict in memory, 1 at .*\n4 clients, .* tracks/s"),
    ("scale --rows 1000,2000 --engines music --folder {out}", r"(?s)2,000 music .*\nmusic, published, 2 sizes: "),
    ("sample_statistics {csv} {out}", "^$"),
    (
        "peers {home} --budget smoke --rounds 5 --peers xgboost",
        r"(?s)GENERATED DATA.*\| genre .*\| xgboost \| xgboost [\d.]+ \|.*\| popularity .*\| xgboost \| this project",
    ),
]


@pytest.mark.parametrize(
    ("script", "table"),
    mostly_long(SCRIPTS, SCRIPTS[1], SCRIPTS[3], SCRIPTS[6]),
    ids=lambda text: text.split()[0],
)
def test_every_script_runs(script, table, trained, tracks_file, tmp_path) -> None:
    arguments = script.format(home=trained.root, csv=tracks_file, out=tmp_path / "out").split(" ")
    command = [sys.executable, "-m", f"benchmarks.{arguments[0]}", *arguments[1:]]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    assert re.search(table, ended.stdout.strip()), ended.stdout


@pytest.mark.parametrize(
    ("module", "options", "said"),
    [
        (scale, ["--rows", "abc"], "argument --rows: 'abc' is no list of sizes such as 1000000,10000000"),
        (scale, ["--rows", "10"], "argument --rows: at least 1,000 rows are needed"),
        (scale, ["--engines", "spark"], "argument --engines: unknown: spark; known: music, polars, pandas"),
        (scale, ["--protocol", "cold_start"], "the other engines only prepare published; give --engines music"),
        (sample_statistics, ["tracks.csv"], "the following arguments are required: target"),
        (
            peers,
            ["w", "--peers", "knn"],
            "argument --peers: unknown: knn; known: xgboost, lightgbm, catboost, autogluon",
        ),
        (suite, ["--parts", "fit"], "argument --parts: unknown: fit; known: preparation, models, "),
    ],
)
def test_a_wrong_option_is_told_in_a_line(module, options, said, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", *options])
    with pytest.raises(SystemExit):
        module.main()
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_peers_are_judged_as_the_cells_on_the_same_rows(trained) -> None:
    case = peers.load("cold_start", "smoke", trained)
    own = {(row["task"], row["model"]): row for row in peers.ours(case, trained)}
    known = peers.resampled_of("xgboost", own.values(), trained)
    assert {model for _, model in own} == {
        "xgboost",
        "gradient_boosting",
        "logistic_regression",
        "svm",
        "multitask_tuned",
    }
    for task, metric in (("genre", "accuracy"), ("popularity", "rmse")):
        sql = f"select track_id, y_pred from results.predictions where {OF_XGBOOST} and task = '{task}'"
        predicted = dict(query(trained, sql))
        found = np.array([predicted[track_id] for track_id in case.data.track_id["test"]])
        shares = np.eye(case.n_genres)[found.astype(int)] if task == "genre" else found
        beside = {name: same for name, same in known[task].items() if name != "log_loss"}
        figures = peers._record(task, "same", {}, shares, case, "xgboost", beside)
        names = ("low", "high", metric, *(["f1_macro"] if task == "genre" else []))
        assert {name: figures[name] for name in names} == pytest.approx(
            {name: own[task, "xgboost"][name] for name in names}
        )
        assert {*figures["leads"]} == {*names} - {"low", "high"}
        for lead in figures["leads"].values():
            assert lead == pytest.approx([0.0] * 3, abs=1e-5)  # the same predictions on the same resamples


@pytest.mark.parametrize("peer", peers.BOOSTED)
def test_a_peer_that_is_installed_learns(peer, tmp_path, monkeypatch, capsys) -> None:
    """Genre 1 is loud; no training row has genre 2, whose column stays."""
    if peer_fits.version_of(peer) is None:
        pytest.skip("an extra")
    random = np.random.default_rng(0)
    x = {
        split: random.normal(size=(n, 3)).astype("float32") for split, n in (("train", 400), ("val", 90), ("test", 90))
    }
    rows, out = tmp_path / "rows.npz", tmp_path / "predicted.npy"
    how = ["--genres=3", "--threads=1", "--seed=42", "--rounds=60", "--seconds=1"]
    for task in ("genre", "popularity"):
        y = {split: (part[:, 0] > 0).astype("int64") if task == "genre" else part[:, 0] for split, part in x.items()}
        np.savez(rows, **{f"x_{split}": x[split] for split in x}, y_train=y["train"], y_val=y["val"])
        monkeypatch.setattr(sys, "argv", ["peer_fits", peer, task, str(rows), str(out), *how])
        peer_fits.main()
        said = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert said["version"] == peer_fits.version_of(peer)
        assert said["fit_seconds"] > 0
        found = np.load(out)
        if task == "genre":
            assert found.sum(axis=1) == pytest.approx(1.0)
            assert found[:, 2].max() == 0.0
            assert (found.argmax(axis=1) == y["test"]).mean() > 0.9
        else:
            assert np.abs(found - y["test"]).mean() < 0.3


def test_the_mean_of_three_peers_and_what_is_not_installed(trained, monkeypatch, tmp_path, capsys) -> None:
    case = peers.load("cold_start", "smoke", trained)
    truth = {
        "genre": np.eye(case.n_genres)[case.data.y["genre"]["test"]],
        "popularity": case.data.y["popularity"]["test"],
    }
    off = {"xgboost": -3.0, "lightgbm": 1.0, "catboost": 2.0}

    def child(module: str, peer: str, task: str, rows: str, out: str, *options: str, python: str) -> dict:
        with np.load(rows) as stored:
            assert len(stored["x_train"]) == len(stored["y_train"]) == case.data.n_train
            assert "y_test" not in stored
        if peer == "autogluon":
            return {"version": None}
        np.save(out, truth[task] + off[peer])
        return {"version": "1.0", "fit_seconds": 10.0}

    monkeypatch.setattr(peers, "child", child)
    monkeypatch.setattr(sys, "argv", ["peers", "w", "--budget", "smoke", "--beside", "xgboost"])
    own = peers.ours(case, trained)
    found = list(peers.fits(case, peers.options(), peers.resampled_of("xgboost", own, trained)))
    assert "genre autogluon: is not installed, and left out" in capsys.readouterr().out
    rmse = {row["model"]: (row["rmse"], row["fit_seconds"]) for row in found if row["task"] == "popularity"}
    assert rmse.pop("mean of xgboost, lightgbm, catboost") == (pytest.approx(0.0, abs=1e-5), 30.0)
    assert rmse == {name: (pytest.approx(abs(value), rel=1e-5), 10.0) for name, value in off.items()}
    assert {row["accuracy"] for row in found if row["task"] == "genre"} == {1.0}

    monkeypatch.setattr(records, "RESULTS", tmp_path)
    peers.record(found[:2], [], case)
    peers.record(found[2:], own, case)
    page = (tmp_path / "peers.md").read_text()
    assert "sample:3000: test rows of protocol cold_start, budget smoke" in page
    assert "GENERATED DATA" in page and "measured on " in page
    lines = [line.split(" | ")[:3] for line in page.splitlines() if line.startswith("| ")]
    assert lines[0] == ["| genre", "library", "accuracy"]
    assert ["| lightgbm", "lightgbm 1.0", "1.000"] in lines
    [at] = [number for number, line in enumerate(lines) if line[0] == "| popularity"]
    assert [line[0] for line in lines[at + 1 : at + 5]] == [
        "| mean of xgboost, lightgbm, catboost", "| lightgbm", "| catboost", "| xgboost",
    ]  # fmt: skip
    assert lines[at + 5][1] == "this project"
    [ours] = [row["rmse"] for row in own if (row["task"], row["model"]) == ("popularity", "xgboost")]
    [lead] = [line for line in page.partition("| xgboost less |")[2].splitlines() if line.startswith("| lightgbm |")]
    difference, low, high = map(float, re.findall(r"[+-]\d+\.\d+", lead.split("|")[-2]))
    assert difference == pytest.approx(ours - 1.0, abs=1e-3)
    assert low < difference < high


@pytest.mark.slow
def test_the_tables_that_polars_prepares_for_comparison_are_ours(tmp_path) -> None:
    csv, home = tmp_path / "tracks.csv", tmp_path / "music"
    write_sample(csv, 20_000)
    row, frame = pl.int_range(pl.len()), pl.read_csv(csv, infer_schema=False)
    frame.with_columns(
        instance_id=pl.when(row == 70).then(pl.col("instance_id").first()).otherwise("instance_id"),
        energy=pl.when(row % 500 == 1).then(pl.lit("loud")).otherwise("energy"),
        tempo=pl.when(row % 700 == 2).then(pl.lit("fast")).otherwise("tempo"),
        music_genre=pl.when(row % 900 == 3).then(None).otherwise("music_genre"),
    ).write_csv(csv)
    (tmp_path / "polars").mkdir()
    engines.prepare_polars(csv, tmp_path / "polars")
    engines.prepare_music(csv, home)
    features = ("split_assignment", "tracks_clean", "tracks_one_hot", "tracks_std", "tracks_pca", "tracks_multitask")
    staging = ("typed_tracks", "stg_tracks")
    for schema, name in [("staging", name) for name in staging] + [("features", name) for name in features]:
        [path] = (home / schema / name).glob("*.parquet")
        ours, theirs = (
            pl.read_parquet(file).sort("row_number" if schema == "staging" else "track_id")
            for file in (path, tmp_path / "polars" / f"{name}.parquet")
        )
        assert_frame_equal(ours, theirs, check_column_order=False, check_dtypes=False, rel_tol=0, abs_tol=1e-6)
    [path] = (home / "raw" / "rejects").glob("*.parquet")
    rejected = [pl.read_parquet(file)["row_number"].sort() for file in (path, tmp_path / "polars" / "rejects.parquet")]
    assert len(rejected[0]) > 60
    assert rejected[0].to_list() == rejected[1].to_list()
