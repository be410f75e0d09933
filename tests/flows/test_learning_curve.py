"""The learning curve end to end: stored apart from everything else, resumed, and read back."""

from __future__ import annotations

import shutil

import pytest

from flows.deployed import benchmark, learning_curve
from tasks.errors import UserError
from tasks.evaluation.bootstrap import percentile_interval
from tasks.prediction.candidates import candidates
from tasks.reporting import terminal
from tasks.storage.warehouse import Warehouse
from tasks.training.cell_files import read_replicates
from tests.helpers.commands import query

OPTIONS = {"source": "sample:2000", "models": ["xgboost", "linear", "logistic_regression"], "smallest": 300}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Warehouse:
    return Warehouse.at(tmp_path_factory.mktemp("curve"))


@pytest.fixture(scope="module")
def curve(prefect_server, home) -> str:
    return learning_curve(**OPTIONS, warehouse=str(home.root))


@pytest.fixture
def copied(curve, home, tmp_path) -> Warehouse:
    """A copy for a test that adds runs, because the others count them."""
    return Warehouse.at(shutil.copytree(home.root, tmp_path / "copied"))


def test_a_curve_has_every_model_on_every_number_of_rows(curve, home) -> None:
    points = query(
        home,
        """
        select task, model, list(n_train order by n_train), bool_and(fit_seconds > 0 and peak_rss_mb > 0),
            bool_and(ci_low <= value and value <= ci_high)
        from results.learning_curve where metric in ('accuracy', 'rmse') group by all order by all
        """,
    )
    cells = [
        ("genre", "logistic_regression"),
        ("genre", "xgboost"),
        ("popularity", "linear"),
        ("popularity", "xgboost"),
    ]
    assert [(task, model) for task, model, *_ in points] == cells
    [sizes] = {tuple(sizes) for _, _, sizes, *_ in points}
    assert sizes == (sizes[-1] // 4, sizes[-1] // 2, sizes[-1])
    assert all(is_cost_known and is_within for *_, is_cost_known, is_within in points)


def test_a_gain_is_better_whichever_way_its_metric_goes(curve, home) -> None:
    gains = query(
        home,
        """
        select gains.task, gains.metric, rows_before, rows_after, is_last, gain, value_after - value_before, gain_low,
            gain_high, few.result, many.result
        from results.learning_gains as gains, results.learning_curve as few, results.learning_curve as many
        where few.n_train = rows_before and many.n_train = rows_after
            and (few.task, few.model, few.metric) = (gains.task, gains.model, gains.metric)
            and (many.task, many.model, many.metric) = (gains.task, gains.model, gains.metric)
        """,
    )
    assert len(gains) == 4 * 2
    for task, metric, before, after, is_last, gain, difference, low, high, few, many in gains:
        sign = -1 if metric == "rmse" else 1
        assert before == after // 2
        assert gain == pytest.approx(sign * difference)
        drawn = read_replicates([few, many], home)
        assert (low, high) == pytest.approx(
            percentile_interval(sign * (drawn[many, task, metric] - drawn[few, task, metric]))
        )
        assert is_last == (after == max(row[3] for row in gains))


def test_parts_of_the_rows_count_nowhere_else(curve, home) -> None:
    """The cells on all rows are ordinary ones; the others are on no board, in no ledger, and never champions."""
    [(most,)] = query(home, "select max(n_train) from results.learning_curve")
    for table in ("cells", "newest", "latest", "figures", "scores", "leaderboard"):
        assert query(home, f"select distinct n_train from results.{table}") == [(most,)], table
    for table in ("metrics", "predictions", "importance"):
        counts = f"select count(*) from results.{table} group by task, model, feature_set, seed"
        distinct = (
            f"select count(*) from (select distinct * from results.{table}) group by task, model, feature_set, seed"
        )
        assert sorted(query(home, counts)) == sorted(query(home, distinct))
        assert len(query(home, counts)) == 4
    found = candidates(home)
    assert {candidate.cell.train_rows for candidate in found} == {None}
    assert len(found) == 4
    assert not any(home.files("champions", "decisions"))
    [(folders,)] = query(
        home, "select count(*) from results.learning_curve where train_rows is not null and metric='rmse'"
    )
    assert folders == 4
    assert len(list((home.root / "cells").glob("*/*.ubj"))) + len(list((home.root / "cells").glob("*/*.skops"))) == 4


@pytest.mark.long
def test_its_cells_are_reused_by_itself_and_by_a_benchmark(copied) -> None:
    options = {name: OPTIONS[name] for name in ("source", "models")}
    ordinary = benchmark(**options, protocol="cold_start", feature_sets=["all"], warehouse=str(copied.root))
    assert query(copied, f"select distinct reused from results.cells where run_id = '{ordinary}'") == [(True,)]
    assert query(copied, f"select count(*) from results.learning_curve where run_id = '{ordinary}'") == [(0,)]
    again = learning_curve(**OPTIONS, warehouse=str(copied.root))
    found = f"select distinct reused, status from results.learning_curve where run_id = '{again}'"
    assert query(copied, found) == [(True, "ok")]


def test_a_curve_is_printed_and_has_a_page_of_its_own(curve, home, capsys) -> None:
    assert terminal.print_curve(curve, home) == "completed"
    printed = capsys.readouterr().out
    assert "GENERATED DATA" in printed
    assert "Genre: accuracy by training rows, same test rows, protocol cold_start" in printed
    assert printed.count("the last doubling, from ") == 4
    page = home.report(curve).read_text(encoding="utf-8")
    assert f"Learning curve, run {curve}" in page
    assert page.count("the last doubling, from ") == 8  # each among the findings and with its figure
    assert "<h3>What the rows cost</h3>" in page


def test_too_few_rows_for_a_curve_are_refused(prefect_server, tmp_path) -> None:
    told = r"half of the training rows are fewer than 1,000\. Give more rows, or a lower --smallest\."
    with pytest.raises(UserError, match=told):
        learning_curve(source="sample:1000", models=["linear"], warehouse=str(tmp_path))
