"""Commands do not wait for imports that take longer than what they do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tasks.storage.warehouse import Warehouse
from tests.helpers.amounts import mostly_long
from tests.helpers.commands import ROOT, clean_environment, query

RUN = """
import runpy, sys
forbidden, command, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(f"flows.{command}", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
assert not {*forbidden.split(",")} & {*sys.modules}
"""


COMMANDS = [
    ("query", ["from results.leaderboard"]),
    ("nearest", ["--track-id", "TRACK"]),
    ("feedback", ["--track-id", "TRACK", "--out", "page.html"]),
    ("report", ["--out", "report.html"]),
    ("api", ["--help"]),
    ("query", []),
]


def without(forbidden: str, command: list[str], home: Warehouse, folder: Path) -> str:
    """What a command prints that must succeed and import none of the packages."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, forbidden, *command],
        env=clean_environment(MUSIC_WAREHOUSE=str(home.root), PYTHONPATH=str(ROOT)),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("command", "options"), mostly_long(COMMANDS, COMMANDS[0], COMMANDS[1]))
def test_a_command_without_a_flow_imports_no_prefect(command, options, trained, tmp_path) -> None:
    [(track,)] = query(trained, "select min(track_id) from staging.stg_tracks")
    assert without("prefect", [command, *(one.replace("TRACK", str(track)) for one in options)], trained, tmp_path)


@pytest.mark.slow
def test_a_stored_net_predicts_without_the_library_that_trained_it(trained, tmp_path) -> None:
    songs, out = str(ROOT / "examples" / "new_songs.csv"), tmp_path / "predicted.csv"
    without(
        "tensorflow,keras,sklearn",
        ["predict", songs, "--model", "multitask_tuned", "--out", str(out)],
        trained,
        tmp_path,
    )
    assert out.exists()
