from __future__ import annotations

import csv
import io
import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import psutil
import pytest

from tasks.errors import UserError
from tasks.results.descriptions import of_table
from tasks.results.query import answer, list_tables
from tasks.storage.warehouse import Warehouse
from tests.helpers.commands import until
from tests.helpers.runs import make_run

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Warehouse:
    made = Warehouse.at(tmp_path_factory.mktemp("asked"))
    make_run(made, "sample:1000", ("knn", "linear"))
    return made


def asked(home: Warehouse, sql: str, format_name: str = "table") -> str:
    out = io.StringIO()
    answer(sql, format_name, home, out)
    return out.getvalue()


def test_views_over_files_of_the_warehouse_are_read(home) -> None:
    assert asked(home, "select count(*) as n from raw.tracks", "csv") == "n\n1000\n"
    assert asked(home, "select count(*) as n from results.predictions", "csv") == "n\n600\n"


@pytest.mark.parametrize(
    "sql",
    [
        "copy (select 1) to '{home}/x.csv'",
        "copy (pivot (select 1 as a, 2 as b) on a using count(*)) to '{home}/x.csv'",
        "explain analyze copy (select 1) to '{home}/x.csv'",
        "export database '{home}/x.csv'",
        "select 1; select 2",
        "set memory_limit = '1GB'",
        "set enable_external_access = true",
        "attach '{home}/x.csv'",
        "drop view results.leaderboard",
        "create temp table x as select 1",
        "delete from results.runs",
        "install httpfs",
        "pragma version",
        "",
        "-- nothing",
    ],
)
def test_only_one_select_is_allowed(sql, home) -> None:
    with pytest.raises(UserError, match="One SELECT is needed"):
        asked(home, sql.format(home=home.root))
    assert not (home.root / "x.csv").exists()


@pytest.mark.parametrize("path", ["/etc/passwd", "{home}/../{name}-secret.txt"])
def test_files_outside_the_warehouse_are_not_read(path, home) -> None:
    secret = home.root.parent / f"{home.root.name}-secret.txt"
    secret.write_text("secret")
    named = path.format(home=home.root, name=home.root.name)
    with pytest.raises(duckdb.PermissionException):
        asked(home, f"select * from read_text('{named}')")


def test_the_formats(home) -> None:
    sql = """
        select 'a,b' as text, null as nothing, 'NaN'::double as odd, 1.5 as number, date '2026-01-02' as day,
            chr(27) || '[31m' as colour
    """
    [row] = csv.DictReader(io.StringIO(asked(home, sql, "csv")))
    assert (row["text"], row["nothing"], row["number"], row["day"]) == ("a,b", "", "1.5", "2026-01-02")
    [found] = json.loads(asked(home, sql, "json"))
    assert found == {
        "text": "a,b", "nothing": None, "odd": None, "number": 1.5, "day": "2026-01-02", "colour": "\x1b[31m",
    }  # fmt: skip
    table = asked(home, sql)
    assert "?[31m" in table
    assert "\x1b" not in table
    assert json.loads(asked(home, "select 1 as a where false", "json")) == []


def test_a_table_shows_the_first_rows_and_says_so(home) -> None:
    table = asked(home, "select * from range(1000) as t(n) order by n")
    assert "199" in table
    assert "the first 200 rows" in table
    assert len(asked(home, "from range(1000)", "csv").splitlines()) == 1001


@pytest.mark.slow
def test_the_command_is_one_line_on_an_error_and_survives_a_closed_pipe(home) -> None:
    def command(*options: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "flows.query", *options, "--warehouse", str(home.root)]
        return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)

    wrong = command("selec 1")
    assert wrong.returncode == 1
    assert wrong.stderr.count("\n") == 1
    assert "syntax error" in wrong.stderr
    right = command("select model from results.leaderboard where task = 'genre'", "--format", "csv")
    assert (right.returncode, right.stdout) == (0, "model\nknn\n")
    piped = f"{sys.executable} -m flows.query 'from range(1000000)' --format csv --warehouse {home.root} | head -1"
    done = subprocess.run(piped, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S602
    assert done.stderr == ""


def test_without_a_question_all_tables_are_listed(home) -> None:
    out = io.StringIO()
    list_tables("csv", home, out)
    described = dict(csv.reader(io.StringIO(out.getvalue())))
    assert described.pop("name") == "description"
    schemas = [name.split(".")[0] for name in described]
    assert list(dict.fromkeys(schemas)) == ["results", "features", "staging", "raw"]
    assert len(schemas) > 45
    assert described["results.leaderboard"].startswith("results.figures with one column per metric")
    assert described["raw.tracks"] == "One row per row of the source file, every value as text."
    assert described["results.comparisons"].endswith("is one better on the same test rows?")
    assert described["features.artist_groups"] == of_table("features.artist_groups")
    assert all(described.values())


@pytest.mark.slow
def test_the_list_ends_with_commands_that_work(home) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "flows.query", "--warehouse", str(home.root)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "results.leaderboard" in listed.stdout
    assert listed.stderr.count("\n") == 1
    commands = re.findall(r'python (-m flows\.query .*?".*?")', listed.stderr)
    assert len(commands) == 2
    for command in commands:
        line = [sys.executable, *shlex.split(command)]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
        assert "model" in done.stdout


def test_json_is_json_or_refused(home) -> None:
    out = io.StringIO()
    answer("select ['nan'::double, 1] as list, {'a': 'inf'::double} as struct", "json", home, out)
    assert json.loads(out.getvalue()) == [{"list": [None, 1.0], "struct": {"a": None}}]
    with pytest.raises(UserError, match="More than one column is called a"):
        answer("select 1 as a, 2 as a", "json", home, io.StringIO())


def test_a_missing_warehouse_is_not_made(tmp_path) -> None:
    command = [sys.executable, "-m", "flows.query", "select 1", "--warehouse", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path}/none: is no warehouse. Choose another with --warehouse.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.alone
def test_a_question_that_takes_for_ever_is_ended_by_a_signal(home) -> None:
    endless = "select count(*) from range(10000000000) a, range(100000) b where hash(a.range + b.range) = 3"
    command = [sys.executable, "-m", "flows.query", endless, "--warehouse", str(home.root)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: psutil.Process(process.pid).cpu_times().user > 4.0)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == -signal.SIGINT
