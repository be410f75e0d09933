"""The flow in Prefect's test server, and the command beside benchmarks, as processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import pytest

from flows.deployed import benchmark, upkeep
from flows.upkeep import print_outcome
from tasks.storage.warehouse import Warehouse
from tests.helpers.commands import refusal
from tests.helpers.runs import everything, files, night

ROOT = Path(__file__).resolve().parents[2]
NIGHTLY = {"models": ["linear", "knn"], "feature_sets": ["all"], "min_genre_rows": 5}


def start(environment: dict[str, str], flow: str, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"flows.{flow}", *options],
        env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.long
def test_nights_of_the_benchmark_with_upkeep_after_each(prefect_server, tmp_path, capsys) -> None:
    home = Warehouse.at(tmp_path)
    held, runs = [], []
    for number in range(5):
        options = {"source": f"sample:{400 + 10 * (number // 2)}", "refresh": number == 3}
        runs.append(benchmark(**NIGHTLY, **options, warehouse=str(tmp_path)))
        before = everything(home, run_ids=set(runs[-2:]))
        report = upkeep(keep_runs=2, grace_hours=0, warehouse=str(tmp_path))
        after = everything(home, run_ids=set(runs[-2:]))
        for table in ("runs", "cells", "metrics", "confusion", "importance", "predictions", "scores"):
            assert after[f"results.{table}"] == before[f"results.{table}"] != []
        # Apart from notes of this one process, and from the history of drift, which stays.
        held.append(len([name for name in files(home) if not name.startswith(("tmp/", "drift/"))]))
    assert max(held[3:]) <= held[2]
    with duckdb.connect(str(home.database), read_only=True) as connection:
        assert connection.execute("select run_id from results.runs order by 1").fetchall() == [(r,) for r in runs[-2:]]
    print_outcome(report)
    printed = capsys.readouterr().out
    assert "Gone" in printed
    assert "runs kept" in printed

    again = benchmark(**NIGHTLY, source="sample:420", warehouse=str(tmp_path))
    with duckdb.connect(str(home.database), read_only=True) as connection:
        rows = connection.execute(f"select distinct reused from results.cells where run_id = '{again}'").fetchall()
    assert rows == [(True,)]


@pytest.mark.long
def test_upkeep_beside_benchmarks_harms_neither(environment, tmp_path) -> None:
    """What each benchmark reuses is what upkeep would remove; the publication is whole at every moment."""
    home = Warehouse.at(tmp_path / "warehouse")
    for rows in (400, 410, 400, 410, 420):
        night(home, f"sample:{rows}", ("linear", "knn"), genre_rows=5)
    place = ("--warehouse", str(home.root))
    wanted = ("--models", "linear,knn,xgboost", "--feature-sets", "all", "--min-genre-rows", "5", *place)
    running, n_read = [], 0
    for rows in (400, 410):
        running.append(start(environment, "benchmark", "--source", f"sample:{rows}", *wanted))
        running.append(start(environment, "upkeep", "--keep-runs", "2", "--grace-hours", "0", *place))
    while any(process.poll() is None for process in running):
        version = home.database.stat().st_ino
        try:
            everything(home)
            n_read += 1
        except duckdb.IOException:  # without grace a reader of a publication that has been replaced is not waited for
            assert home.database.stat().st_ino != version
        time.sleep(0.2)
    assert n_read > 5
    for process in running:
        _, told = process.communicate()
        assert process.returncode == 0, told
        assert "Traceback" not in told
    done = start(environment, "upkeep", "--keep-runs", "2", "--grace-hours", "0", *place)
    printed = done.communicate()[0]
    assert (done.returncode, "runs kept" in printed) == (0, True)
    rows = everything(home)
    assert len(rows["results.runs"]) == len(home.files("runs", "started")) <= 3
    with duckdb.connect(str(home.database), read_only=True) as connection:
        query = """
            select count(*), bool_and(status = 'ok'), bool_and(fit_seconds is not null)
            from results.cells where model = 'xgboost'
        """
        assert connection.execute(query).fetchall() == [(4, True, True)]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--keep-days", "x"], "Invalid value for --keep-days: 'x' is no whole number. See --help."),
        (["--grace-hours", "-1"], "--grace-hours: Input should be greater than or equal to 0"),
        (["--keep-days", "99999999999999999999"], "--keep-days: Input should be less than or equal to 36500"),
        (["--wait", "nan"], "--wait: Input should be greater than or equal to 0"),
        (["--wait", "-1"], "--wait: Input should be greater than or equal to 0"),
        (["--warehouse", "nowhere"], "nowhere: is no warehouse. "),
        (["--warehouse", "pyproject.toml"], "pyproject.toml: is no warehouse. "),
        (["--warehouse", "docs"], "docs: is no warehouse, or an empty one"),
    ],
)
def test_options_that_cannot_be_are_refused(options, reason, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MUSIC_WAREHOUSE", str(tmp_path / "warehouse"))
    told = refusal(*options, flow="upkeep")
    assert reason in told
    assert len(told.splitlines()) == 1
    assert not (ROOT / "nowhere").exists()


@pytest.mark.long
def test_a_user_error_is_one_line_and_exit_code_1(environment) -> None:
    done = start(environment, "upkeep", "--keep-runs", "0")
    printed, told = done.communicate(timeout=120)
    assert (done.returncode, printed, told.count("\n")) == (1, "", 1)
    assert "--keep-runs: Input should be greater than or equal to 1" in told


def test_a_read_only_warehouse_is_one_line(environment) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Warehouse.at(folder)
        (home.root / "raw" / "tracks").mkdir(parents=True)
        for path in (home.root / "tmp", home.root):
            path.chmod(0o555)
        # Root may write anywhere, unless it goes without that capability.
        bound = ["setpriv", "--bounding-set=-dac_override"] if os.getuid() == 0 else []
        done = subprocess.run(
            [*bound, sys.executable, "-m", "flows.upkeep", "--warehouse", folder],
            env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        home.root.chmod(0o755)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert "the warehouse is not writable" in done.stderr
