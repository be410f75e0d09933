"""A whole run on data that means harm: trained, published and printed."""

from __future__ import annotations

import os

import duckdb
import pytest

from flows.deployed import benchmark
from tasks.reporting import terminal
from tasks.storage.warehouse import Warehouse
from tests.helpers.commands import clean_environment, run
from tests.helpers.tracks import labelled
from tests.helpers.untrusted import UNTRUSTED


@pytest.mark.long
def test_a_run_on_hostile_names(prefect_server, tmp_path, capsys) -> None:
    path = tmp_path / "[red]x[bold] {{ y }} :smile: $z.csv"
    labelled(UNTRUSTED).write_csv(path)
    home = Warehouse.at(tmp_path / "warehouse")
    run_id = benchmark(
        source=str(path), protocol="label_free", budget="smoke", models=["knn", "linear", "xgboost", "multitask"],
        feature_sets=["all", "all_with_genre"], warehouse=str(home.root),
    )  # fmt: skip
    terminal.print_run(run_id, home)
    printed = capsys.readouterr().out
    assert f"budget smoke, {path.name}" in printed
    with duckdb.connect(str(home.database), read_only=True) as connection:
        cells = connection.execute("select model, feature_set, status from results.cells order by all").fetchall()
        assert {status for _, _, status in cells} == {"ok"}
        assert ("xgboost", "all_with_genre", "ok") in cells
        genres = connection.execute("select distinct genre from results.genres where split = 'test'").fetchall()
        unlike = {*UNTRUSTED} - {"?", "\u00e7A", "a\rb"}  # no genre; one in another case, with other white space
        assert {genre for (genre,) in genres} == {*unlike, "Jazz", "Rap"}


@pytest.mark.slow
def test_an_option_that_is_no_text_is_refused_in_one_line(tmp_path) -> None:
    done = run(clean_environment(MUSIC_WAREHOUSE=str(tmp_path)), "--source", os.fsdecode(b"t\xff.csv"))
    assert done.returncode == 1
    assert done.stderr == "--source t?.csv: is not text in UTF-8. Give the file, or a link to it, another name.\n"
