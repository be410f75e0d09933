"""Commands that run no flow do not wait for Prefect, whose import takes longer than they do."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers.amounts import mostly_long
from tests.helpers.commands import ROOT, clean_environment, query

RUN = """
import runpy, sys
command, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(f"flows.{command}", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
assert "prefect" not in sys.modules
"""


COMMANDS = [
    ("query", ["from results.leaderboard"]),
    ("nearest", ["--track-id", "TRACK"]),
    ("feedback", ["--track-id", "TRACK", "--out", "page.html"]),
    ("report", ["--out", "report.html"]),
    ("api", ["--help"]),
    ("query", []),
]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "options"), mostly_long(COMMANDS, COMMANDS[0], COMMANDS[1]))
def test_a_command_without_a_flow_imports_no_prefect(command, options, trained, tmp_path) -> None:
    [(track,)] = query(trained, "select min(track_id) from staging.stg_tracks")
    options = [option.replace("TRACK", str(track)) for option in options]
    environment = clean_environment(MUSIC_WAREHOUSE=str(trained.root), PYTHONPATH=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", RUN, command, *options],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
