"""Commands with plug-ins: the example from an installed wheel, and what each command says of a plug-in's fault."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from tests.helpers.commands import ROOT, clean_environment, dask_cluster, refusal, run
from tests.helpers.plugging import EXAMPLE, restored

RUN = ["--source", "sample:2000", "--protocol", "median", "--models", "hist_gradient_boosting,linear"]
RUN += ["--feature-sets", "interactions"]


@pytest.mark.parametrize(
    "flow", ["benchmark", "features", "learning_curve", "tune", "predict", "feedback", "nearest", "api"]
)
def test_every_command_says_in_one_line_what_is_wrong_with_a_plugin(flow, tmp_path) -> None:
    given = {"predict": ["tracks.csv"], "tune": ["--task", "genre", "--model", "xgboost_tuned"]}.get(flow, [])
    with restored():
        said = refusal(*given, "--plugins", str(tmp_path / "nowhere.py"), flow=flow)
    assert said == f"plug-in {tmp_path / 'nowhere.py'}: there is no such file."


def test_names_of_a_plugin_are_taken_with_it_alone() -> None:
    names = ["--protocol", "median", "--models", "hist_gradient_boosting", "--feature-sets", "interactions"]
    with restored():
        assert "Unknown protocol 'median'" in refusal(*names)
        said = refusal("--plugins", str(EXAMPLE), *names, "--units", "energy=nothing")
    assert "unknown unit 'nothing'" in said  # which is looked at after all names


@pytest.mark.long
def test_the_example_runs_from_an_installed_wheel_as_the_page_says(wheel, prefect_server, tmp_path) -> None:
    """In an empty folder outside the checkout, by `music-benchmark`'s entry, with the plug-in installed, too."""
    from prefect.settings import PREFECT_API_URL

    for file in ("my_models.py", "new_songs.csv"):
        shutil.copy(ROOT / "examples" / file, tmp_path)
    own = clean_environment(
        PREFECT_API_URL=PREFECT_API_URL.value(), PYTHONPATH=str(wheel), MUSIC_WAREHOUSE=str(tmp_path / "warehouse")
    )

    def command(*words: str, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "flows", *words],
            env=own | more, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done

    where = [sys.executable, "-c", "import flows; print(flows.__file__)"]
    found = subprocess.run(where, env=own, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.startswith(str(wheel))
    command("run", "--plugins", "my_models.py", *RUN)
    with duckdb.connect(str(tmp_path / "warehouse" / "music.duckdb"), read_only=True) as connection:
        cells = connection.execute(
            "select model, feature_set, protocol, status, error, model_path is null from results.cells order by model"
        ).fetchall()
        assert cells == [
            (model, "interactions", "median", "ok", None, False) for model in ("hist_gradient_boosting", "linear")
        ]
        [(accuracy,)] = connection.execute("select accuracy from results.leaderboard where accuracy > 0").fetchall()
        assert accuracy > 0.2  # of ten genres
    predict = ("predict", "new_songs.csv", "--out", "predicted.csv")
    refused = command(*predict, code=1)
    assert refused.stderr.count("\n") == 1
    assert "'hist_gradient_boosting' is of a plug-in that is not loaded" in refused.stderr
    command(*predict, MUSIC_PLUGINS="my_models.py")
    told = _rows(tmp_path / "predicted.csv")
    assert len(told) == 5
    assert {row["genre_model"].partition("@")[0] for row in told} == {"hist_gradient_boosting"}
    _install(tmp_path / "my_models.py", tmp_path / "site")
    by_package = {"PYTHONPATH": os.pathsep.join([str(wheel), str(tmp_path / "site")])}
    command(*predict, **by_package)
    assert _rows(tmp_path / "predicted.csv") == told
    again = command("run", *RUN, **by_package)
    assert "2 of 2 cells ok, 2 reused" in again.stderr


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _install(file: Path, site: Path) -> None:
    """Moves a plug-in's file into a package that is installed, as far as Python can tell."""
    package, about = site / "own_models", site / "own_models-1.dist-info"
    for folder in (package, about):
        folder.mkdir(parents=True)
    (package / "__init__.py").touch()
    file.rename(package / "models.py")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own-models\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[music_benchmark.models]\nown = own_models.models\n")


@pytest.mark.long
@pytest.mark.alone
def test_dask_workers_load_the_plugins_of_a_run(environment, tmp_path) -> None:
    options = ["--plugins", str(EXAMPLE), *RUN, "--runner", "dask"]
    with dask_cluster(tmp_path, "--no-nanny") as (scheduler, _):
        done = run(environment, *options, "--dask-address", scheduler)
        assert done.returncode == 0, done.stderr
        assert "2 of 2 cells ok, 0 reused" in done.stderr
        other = ["--source", "sample:2000", "--models", "linear", "--feature-sets", "all", "--runner", "dask"]
        assert run(environment, *other, "--dask-address", scheduler).returncode == 0  # which knows no plug-in
    own = run(environment, *options, "--workers", "2", "--refresh")
    assert "2 of 2 cells ok, 0 reused" in own.stderr
