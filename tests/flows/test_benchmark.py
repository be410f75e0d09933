"""The flow end to end, in Prefect's test server; and the command as a process, killed and run again."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.deployed import benchmark
from tasks.reporting import terminal
from tasks.storage.warehouse import Warehouse
from tests.helpers.commands import ROOT, clean_environment, query, refusal, run
from tests.helpers.tracks import many

OPTIONS = {"source": "sample:2000", "models": ["knn", "linear", "xgboost", "multitask"], "feature_sets": ["all", "pca"]}
CONTRACT = {
    "raw.rejects": "line column_name error csv_line",
    "staging.stg_tracks": """track_id artist_name track_name acousticness danceability duration_ms energy
        instrumentalness key_code liveness loudness mode_code speechiness tempo valence popularity music_genre
        is_tempo_missing is_duration_missing""",
    "features.genre_mapping": "genre_id music_genre column_name",
    "features.split_assignment": "protocol track_id split",
    "features.tracks_clean": "protocol track_id acousticness tempo popularity music_genre is_imputed",
    "features.tracks_one_hot": "protocol track_id acousticness tempo popularity genre_Rap",
    "features.tracks_std": "protocol track_id split acousticness tempo popularity music_genre",
    "features.tracks_pca": "protocol track_id split pc1 popularity music_genre",
    "features.tracks_multitask": "protocol track_id split acousticness genre_Rap popularity",
    "features.statistics": "protocol feature_name statistic genre value",
    "features.registry": "table_name protocol version snapshot path rows built_at build_seconds",
    "results.runs": "run_id started_at finished_at status budget source snapshot git_commit versions cpu_count",
    "results.cells": """run_id protocol task model feature_set seed budget status reused error fit_seconds
        predict_seconds peak_rss_mb n_train params feature_version cell_key model_path""",
    "results.metrics": """run_id protocol task model feature_set seed split slice metric value ci_low
        ci_high""",
    "results.confusion": "run_id protocol model feature_set seed split true_genre predicted_genre n",
    "results.importance": "run_id protocol task model feature_set seed feature_name importance",
    "results.predictions": "run_id protocol task model feature_set seed split track_id y_true y_pred",
    "results.champions": """task model feature_set protocol seed run_id cell_key result model_path model_sha256 metric
        value ci_low ci_high chosen_at replaced reason is_current""",
    "results.leaderboard": "budget protocol task model feature_set seed accuracy f1_macro rmse spearman source",
    "results.leaderboards": "budget protocol task model feature_set accuracy rmse source catalogue is_current",
    "results.catalogues": "catalogue is_current source run_id",
    "results.published": "task model feature_set split metric value",
    "results.parity": "task model feature_set split metric ours published difference",
    "results.leak_ledger": "task model feature_set inflation inflation_low inflation_high",
    "results.comparisons": "protocol task feature_set metric model_a model_b difference ci_low ci_high p_value p_holm",
}
QUESTIONS = (ROOT / "docs/results.md").read_text(encoding="utf-8")
STATEMENTS = [
    statement
    for block in re.findall(r"```sql\n(.*?)```", QUESTIONS, re.DOTALL)
    for statement in block.split(";")
    if statement.strip()
]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Warehouse:
    return Warehouse.at(tmp_path_factory.mktemp("flow"))


@pytest.fixture(scope="module")
def first_run(prefect_server, home) -> str:
    return benchmark(**OPTIONS, warehouse=str(home.root))


@pytest.fixture
def own(first_run, home, tmp_path) -> Warehouse:
    """A copy for a test that adds runs, because the others count them."""
    return Warehouse.at(shutil.copytree(home.root, tmp_path / "own"))


def test_a_run_is_published_whole(first_run, home) -> None:
    assert query(home, "select status, budget, source, is_generated from results.runs") == [
        ("completed", "smoke", "sample:2000", True)
    ]
    cells = query(
        home, "select status, reused, count(*), min(fit_seconds) >= 0, min(n_train) from results.cells group by all"
    )
    assert cells == [("ok", False, 10, True, 1400)]
    assert query(home, "select count(*) from results.predictions") == [(10 * 600,)]
    assert query(home, "select count(*) from results.metrics where value is null") == [(0,)]
    best = query(home, "select task, rank, accuracy, rmse from results.leaderboard where rank = 1")
    assert [row[0] for row in best] == ["genre", "popularity"]
    assert query(home, "select count(*) from results.parity") == [(0,)]
    pairs = query(home, "select distinct feature_set, model_a, model_b from results.comparisons order by all")
    assert pairs == [
        ("all", "knn", "multitask"), ("all", "knn", "xgboost"), ("all", "linear", "multitask"),
        ("all", "linear", "xgboost"), ("all", "multitask", "xgboost"), ("pca", "knn", "xgboost"),
        ("pca", "linear", "xgboost"),
    ]  # fmt: skip
    assert query(home, "select count(*) from results.published")[0][0] > 100
    assert query(home, "select count(*) from raw.tracks") == [(2000,)]


def test_metrics_agree_with_the_predictions(first_run, home) -> None:
    [(differing,)] = query(
        home,
        """
        with ours as (
            select model, feature_set, split, avg((y_true = y_pred)::int) as accuracy
            from results.predictions where task = 'genre' group by all
        )
        select count(*) from ours join results.metrics using (model, feature_set, split)
        where metric = 'accuracy' and slice = 'all' and task = 'genre' and abs(accuracy - value) > 1e-12
        """,
    )
    assert differing == 0


@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_queries_of_the_readme_run(statement, first_run, home) -> None:
    query(home, statement)


@pytest.mark.long
def test_every_protocol_in_one_run_with_seeds(prefect_server, tmp_path, capsys) -> None:
    """The ledger measures every leak, the comparisons hold, and what has no seed is trained once."""
    home = Warehouse.at(tmp_path / "all")
    models = ["xgboost", "linear", "logistic_regression"]
    options = {"source": "sample:2000", "protocol": "all", "budget": "full", "models": models, "seeds": [42, 43]}
    run_id = benchmark(
        **options, feature_sets=["all", "all_with_genre", "all_with_popularity"], warehouse=str(home.root)
    )
    terminal.print_run(run_id, home)
    printed = capsys.readouterr().out
    assert "Leak: imputation, accuracy or RMSE, generated sample" in printed
    assert "all_with_popularity" in printed
    cells = query(home, "select model, count(distinct seed) from results.cells group by 1 order by 1")
    assert cells == [("linear", 1), ("logistic_regression", 1), ("xgboost", 2)]
    ledger = query(
        home,
        """
        select leak, task, count(distinct model), bool_and(inflation_low <= inflation and inflation <= inflation_high)
        from results.leak_ledger where metric in ('accuracy', 'rmse') group by all order by all
        """,
    )
    one = [("artists", 1), ("imputation", 2), ("recordings", 1), ("target", 1)]
    assert ledger == [(leak, task, n, True) for leak, n in one for task in ("genre", "popularity")]
    [(inflation,)] = query(
        home,
        """
        select inflation from results.leak_ledger
        where leak = 'target' and task = 'popularity' and metric = 'rmse'
        """,
    )
    assert inflation < -0.5  # the sample's popularity depends on the genre
    pairs = query(
        home, "select protocol, count(*) from results.comparisons where metric = 'rmse' group by 1 order by 1"
    )
    assert pairs == [
        ("cold_start", 1), ("label_free", 1), ("published", 1),
    ]  # fmt: skip
    board = query(home, "select distinct protocol, feature_set, seeds from results.leaderboard where model = 'xgboost'")
    assert sorted(board) == [(protocol, "all", 2) for protocol in ("cold_start", "label_free", "published")]


@pytest.mark.parametrize("table", CONTRACT)
def test_the_contract_of_tables_and_columns(table, first_run, home) -> None:
    found = {row[0] for row in query(home, f"describe {table}")}
    assert set(CONTRACT[table].split()) <= found


def test_the_summary_says_that_data_is_generated(first_run, home, capsys) -> None:
    terminal.print_run(first_run, home)
    printed = capsys.readouterr().out
    assert "GENERATED DATA" in printed
    assert "generated sample" in printed
    assert "knn" in printed


@pytest.mark.long
def test_what_a_run_suggests_works_as_it_stands(prefect_server, tmp_path, capsys) -> None:
    models = ["xgboost", "gradient_boosting"]
    run_id = benchmark(
        source="sample:2000", protocol="main", models=models, feature_sets=["all"], warehouse=str(tmp_path / "w")
    )
    terminal.print_run(run_id, Warehouse.at(tmp_path / "w"))
    suggested = re.findall(
        r"^\w[\w ]+: +python (-m flows\.\w+ .*?)(?:  \(run .*)?$", capsys.readouterr().out, re.MULTILINE
    )
    assert [line.split()[1] for line in suggested] == ["flows.query", "flows.predict", "flows.feedback"]
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for line in suggested:
        done = subprocess.run(
            [sys.executable, *shlex.split(line)], cwd=tmp_path, env=clean_environment(PYTHONPATH=str(ROOT)),
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.glob("new_songs*")} == {
        "new_songs.predictions.parquet", "new_songs-2.feedback.html"
    }  # fmt: skip


def test_a_run_writes_its_report_and_the_summary_says_where(first_run, home, capsys) -> None:
    report = home.root / "reports" / f"{first_run}.html"
    assert "leaderboard-genre" in report.read_text(encoding="utf-8")
    terminal.print_run(first_run, home)
    assert f"Report:   {report}" in capsys.readouterr().out


def test_a_report_that_fails_does_not_fail_the_run(prefect_server, tmp_path, monkeypatch) -> None:
    def fail(run_id: str, warehouse: Warehouse) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr("tasks.reporting.report.write_report", fail)
    options = {"source": "sample:1000", "models": ["knn"], "feature_sets": ["all"], "warehouse": str(tmp_path)}
    state = benchmark(**options, return_state=True)
    assert state.is_completed()
    assert "; report " not in str(state.message)
    assert not (tmp_path / "reports").exists()


def test_a_second_run_reuses_and_a_refresh_does_not(own) -> None:
    options = OPTIONS | {"models": ["knn", "linear"], "warehouse": str(own.root)}
    again = benchmark(**options)
    assert query(own, f"select distinct status, reused from results.cells where run_id = '{again}'") == [("ok", True)]
    anew = benchmark(**options, refresh=True)
    assert query(own, f"select distinct status, reused from results.cells where run_id = '{anew}'") == [("ok", False)]
    # What earlier runs reported stays as it was.
    assert query(own, "select count(distinct result) from results.cells where model = 'knn'") == [(4,)]
    assert query(own, "select count(*) from results.leaderboard") == [(10,)]


@pytest.mark.long
def test_a_trial_is_told_of_and_its_catalogue_becomes_the_current_one_if_asked(own, tmp_path, capsys, caplog) -> None:
    many(200).write_csv(tmp_path / "mine.csv")
    sample = {"models": ["linear"], "feature_sets": ["all"], "warehouse": str(own.root), "source": "sample:2000"}
    mine = sample | {"source": str(tmp_path / "mine.csv"), "budget": "smoke"}
    told = f"This run is a trial: {tmp_path}/mine.csv is not the current catalogue of the warehouse, which is sample. "
    shown = "select distinct source from results.leaderboard"
    benchmark(**sample, as_current=True)  # else real data would take its place
    assert "is a trial" not in caplog.text + capsys.readouterr().err
    benchmark(**mine)
    for said in (caplog.text, capsys.readouterr().err):
        assert told in said
        assert "run the benchmark with --as-current." in said
    assert query(own, shown) == [("sample:2000",)]
    caplog.clear()
    benchmark(**mine, as_current=True)
    assert "is a trial" not in caplog.text + capsys.readouterr().err
    assert query(own, shown) == [("mine.csv",)]


def test_cells_that_run_out_of_time_are_rows_and_fail_the_run_only_together(own) -> None:
    options = OPTIONS | {"models": ["knn", "linear"], "warehouse": str(own.root), "refresh": True}
    state = benchmark(**options, cell_timeout=0.001, return_state=True)
    assert state.is_failed()
    run_id = state.result(raise_on_failure=False)
    rows = query(own, f"select distinct status, error from results.cells where run_id = '{run_id}'")
    assert rows == [("timed_out", "ended after 0.001 s, the time limit of a cell")]
    assert query(own, f"select status from results.runs where run_id = '{run_id}'") == [("failed",)]
    assert query(own, "select count(*) from results.leaderboard") == [(10,)]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--source", "pyproject.toml"], "pyproject.toml: columns 'acousticness', "),
        (["--models", "xgb"], "Unknown model 'xgb'. Known: better"),
        (["--protocol", "cold"], "Unknown protocol 'cold'. Known: all, artists_any"),
        (["--models", "multitask", "--feature-sets", "rhythm"], "Nothing to train"),
        (["--budget", "huge"], "Unknown budget 'huge'. Known: brief, full, smoke"),
        (["--seeds", "x"], "is no whole number. See --help."),
        (["--seeds", ","], "is no whole number. See --help."),
        (["--source", "sample:abc"], "takes a whole number of rows"),
        (["--source", "snapshot:nope"], "has no snapshot 'nope'"),
        (["--columns", "foo=bar"], "--columns: unknown column 'foo'"),
        (["--min-genre-rows", "0"], "--min-genre-rows: Input should be greater than or equal to 1"),
        (["--seeds", "-1"], "--seeds: Input should be greater than or equal to 0"),
        (["--cell-timeout", "0"], "--cell-timeout: Input should be greater than 0"),
        (["--max-reject-share", "2"], "--max-reject-share: Input should be less than or equal to 1"),
        (["--workers", "0"], "--workers: Input should be greater than or equal to 1"),
        (["--warehouse", "pyproject.toml"], "cannot be used as the warehouse"),
    ],
)
def test_options_that_cannot_be_are_refused(options, reason, prefect_server, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MUSIC_WAREHOUSE", str(tmp_path / "warehouse"))
    told = refusal(*options)
    assert reason in told
    assert len(told.splitlines()) == 1


def test_a_user_error_is_one_line_and_exit_code_1(environment) -> None:
    done = run(environment, "--source", "nowhere.csv")
    assert done.returncode == 1
    assert "nowhere.csv: cannot be read" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert len([line for line in done.stderr.splitlines() if "Prefect's" not in line and "rows read" not in line]) == 1
