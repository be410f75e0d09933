"""Options of commands: refused in one line, shown in the help, and read without large libraries."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from importlib.metadata import version

import pytest

from flows.__main__ import COMMANDS, program
from flows.options import parsed, signature_of
from tasks.errors import UserError
from tasks.ingest import source_names
from tasks.models.registry import MODELS
from tasks.specs import METRICS, PROTOCOLS
from tests.helpers.commands import ROOT, clean_environment

LARGE = ("prefect", "sklearn", "polars", "duckdb", "pyarrow", "scipy")
WHAT_IS_IMPORTED = f"""
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert [name for name in {LARGE} if name in sys.modules] == []
    raise
"""


def called(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WHAT_IS_IMPORTED, *words]
    return subprocess.run(
        command, env=clean_environment(), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def options(*words: str) -> dict[str, object]:
    """What the program makes of a command line."""
    asked = parsed(program(), words)
    assert asked
    return asked[1]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["flows.benchmark", "--help"], 0),
        (["flows.__main__", "--help"], 0),
        (["flows.__main__", "run", "--help"], 0),
        (["flows.benchmark", "--modles", "svm"], 1),
        (["flows.features", "--source", "nowhere.csv"], 1),
        (["flows.tune", "--task", "genre", "--model", "knn"], 1),
        (["flows.__main__", "rnu"], 1),
    ],
)
def test_help_and_wrong_options_need_no_large_library(words, code) -> None:
    done = called(*words)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == code
    assert bool(done.stdout) == (code == 0)


def test_the_help_names_what_can_be_asked_for_and_shows_examples() -> None:
    told = " ".join(called("flows.benchmark", "--help").stdout.replace("│", " ").split())
    for name in [*PROTOCOLS, *(spec.model for spec in MODELS.values())]:
        assert name in told
    assert "Examples: python -m flows.benchmark" in told
    assert "by default 20GB" in told
    told = " ".join(called("flows.__main__", "report", "--help").stdout.replace("│", " ").split())
    assert all(metric in told for metric in METRICS)
    assert "music-benchmark report --compare BEFORE AFTER" in told


@pytest.mark.parametrize("command", COMMANDS, ids=[command.name for command in COMMANDS])
def test_every_parameter_and_every_example_is_understood(command, monkeypatch) -> None:
    monkeypatch.setattr(source_names, "check", lambda *_: None)  # the files of examples are not there
    for example in command.examples:
        assert parsed(command.app(), shlex.split(example))
        assert options(command.name, *shlex.split(example))["quiet"] is False


def test_plugins_are_loaded_before_names_that_they_may_add_are_checked() -> None:
    taking = [list(signature_of(command.function).parameters) for command in COMMANDS]
    taking = [names for names in taking if "plugins" in names]
    assert len(taking) == 8
    of_plugins = {"model", "models", "protocol", "feature_sets"}
    for names in taking:
        assert not of_plugins & {*names[: names.index("plugins")]}


def test_options_become_parameters() -> None:
    found = options("run", "--models", "svm,linear", "--seeds", "1,2", "--max-source-bytes", "5MB", "--spread")
    assert found["models"] == ["svm", "linear"]
    assert found["seeds"] == [1, 2]
    assert found["max_source_bytes"] == 5_000_000
    assert (found["spread"], found["refresh"], found["workers"]) == (True, False, None)
    assert options("features", "--artist-separators", ", ", " & ")["artist_separators"] == [", ", " & "]
    assert options("predict", "examples/new_songs.csv")["tracks"] == "examples/new_songs.csv"
    assert options("query")["sql"] is None


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["run", "--models", "xgbost"], "--models: Unknown model 'xgbost'. Known: "),
        (["run", "--protocol", "published,main"], "--protocol: Unknown protocol 'published,main'"),
        (["run", "--workers", "0"], "--workers: Input should be greater than or equal to 1"),
        (["run", "--workers", "x"], "Invalid value for --workers: 'x' is no whole number"),
        (["run", "--workers", "2.5"], "Invalid value for --workers: '2.5' is no whole number"),
        (["explain", "--track-id", "4711.7"], "'4711.7' is no whole number"),
        (["report", "--compare", "x", "--fail-if-worse", ""], "--fail-if-worse: List should have at least 1 item"),
        (["predict", "snapshot:latest"], "snapshot:latest: a snapshot is not read as new tracks"),
        (["features", "--source", "https://me:secret@[bad/x.csv"], "is not a valid URL"),
        (["run", "--seeds", "a"], "Invalid value for --seeds"),
        (["run", "--seeds", "-1"], "--seeds"),
        (["run", "--seeds", ","], "Invalid value for --seeds"),
        (["run", "--max-source-bytes", "0"], "'0' is no size such as 20GB"),
        (["run", "--source", "a.csv", "--source", "b.csv"], "--source specified multiple times"),
        (["run", "a.csv"], "a.csv"),
        (["run", "--source"], "--source requires an argument"),
        (["run", "--no-refresh"], "Unknown option: --no-refresh"),
        (["predict"], "TRACKS requires an argument"),
        (["predict", "a.csv", "b.csv"], "b.csv"),
        (["predict", "nowhere.csv"], "nowhere.csv: cannot be read (No such file or directory"),
        (["run", "--source", "docs"], "docs: is a folder, not a file"),
        (["curve", "--source", "sample:many"], "sample[:ROWS] takes a whole number of rows"),
        (["tune", "--task", "genre"], "--model requires an argument"),
        (["tune", "--task", "genre", "--model", "extra_trees", "--save", "My own"], "--save: String should match"),
        (["run", "--models", "svm@mine"], "--models: Unknown model with saved settings 'svm'. Known: "),
        (["serve", "--port", "99999"], "--port: Input should be less than or equal to 65535"),
        (["query", "--json"], "Unknown option: --json"),
        (["predict", "\udcff.csv"], "TRACKS ?.csv: is not text in UTF-8"),
    ],
)
def test_a_wrong_option_is_refused(words, reason) -> None:
    with pytest.raises(UserError) as refused:
        options(*words)
    assert reason in str(refused.value)


@pytest.mark.long
def test_json_is_alone_on_standard_output_and_quiet_says_nothing(trained, tmp_path) -> None:
    def said(*words: str) -> subprocess.CompletedProcess[str]:
        given = ["report", "--out", str(tmp_path / "page.html"), "--warehouse", str(trained.root), *words]
        return subprocess.run(
            [sys.executable, "-m", "flows", *given],
            env=clean_environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

    told = said("--json")
    assert json.loads(told.stdout) == {"page": str(tmp_path / "page.html")}
    assert told.stderr == f"{tmp_path / 'page.html'}\n"
    told = said("--quiet")
    assert (told.stdout, told.stderr) == ("", "")
    assert json.loads(said("--quiet", "--json").stdout)["page"]


def test_the_version() -> None:
    assert called("flows.__main__", "--version").stdout.strip() == version("music-benchmark")
