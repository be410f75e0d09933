"""The learning curve's parts: which rows, which sizes, which cells, and what is said of the result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import UserError
from tasks.reporting.sparklines import LogScale
from tasks.results.learning_curve import answer
from tasks.specs import BUDGETS
from tasks.training.grid import plan_cells
from tasks.training.jobs import make_jobs
from tasks.training.learning_curve import curve_cells, sizes, training_rows
from tasks.training.train import load, stratified


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.data())
def test_a_part_of_the_rows_is_stratified_in_order_and_within_every_larger_part(genres, data) -> None:
    genre = np.array(genres)
    small, large = sorted(data.draw(st.tuples(*[st.integers(1, len(genre))] * 2)))
    few, more = stratified(genre, small), stratified(genre, large)
    assert len(few) == small
    assert np.all(np.diff(few) > 0)
    assert set(few) <= set(more)
    share = np.bincount(genre) * small / len(genre)
    assert np.all(np.abs(np.bincount(genre[few], minlength=len(share)) - share) <= 1)
    assert np.array_equal(stratified(genre, len(genre)), np.arange(len(genre)))


def test_a_cell_on_fewer_rows_is_judged_on_the_same_ones(sample_tables, shared_warehouse) -> None:
    [cell] = plan_cells(["published"], "smoke", ["linear"], ["all"], [42])
    cells = [cell, *(replace(cell, train_rows=n) for n in (700, 350))]
    jobs = make_jobs(cells, sample_tables, "curve", shared_warehouse, 1)
    assert len({job.key for job in jobs}) == 3
    assert jobs[2].cell.title == "popularity linear on all (published, seed 42, 350 rows)"
    whole, half, quarter = map(load, jobs)
    assert [len(part.track_id["train"]) for part in (whole, half, quarter)] == [1400, 700, 350]
    assert set(quarter.track_id["train"]) < set(half.track_id["train"]) < set(whole.track_id["train"])
    for split in ("val", "test"):
        assert np.array_equal(quarter.x[split], whole.x[split])
        assert np.array_equal(quarter.y["popularity"][split], whole.y["popularity"][split])


def test_sizes_are_halves_of_halves() -> None:
    assert sizes(35_000, 1000) == [17_500, 8_750, 4_375, 2_187, 1_093]
    with pytest.raises(UserError, match="half of the training rows are fewer than 1,000"):
        sizes(1999, 1000)


def test_the_dearest_cells_come_first(sample_tables, shared_warehouse) -> None:
    assert training_rows(sample_tables, BUDGETS["full"], shared_warehouse) == 1400
    assert training_rows(sample_tables, replace(BUDGETS["smoke"], max_train_rows=900), shared_warehouse) == 900
    cells = plan_cells(["published"], "smoke", ["xgboost"], ["all"], [42])
    planned = [(cell.task, cell.train_rows) for cell in curve_cells(cells, [700, 350])]
    assert planned == [(task, rows) for rows in (None, 700, 350) for task in ("genre", "popularity")]


STEP = {
    "model": "xgboost", "metric": "rmse", "rows_before": 500, "rows_after": 1000, "value_before": 13.35,
    "value_after": 13.21, "gain": 0.14, "gain_before": 0.19,
}  # fmt: skip


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((0.04, 0.23), "more data like this would still help"),
        ((-0.04, 0.23), "there is no evidence that more data like this would help"),
        ((-0.2, -0.1), "the added rows did harm"),
    ],
)
def test_what_more_data_would_buy_is_said_plainly(interval, said) -> None:
    found = answer(STEP | dict(zip(("gain_low", "gain_high"), interval, strict=True)))
    assert found.startswith(
        "xgboost: the last doubling, from 500 to 1,000 rows, gained +0.14 (RMSE 13.35 to 13.21; 95 %"
    )
    assert found.endswith(f"; the doubling before: +0.19): {said}.")


@given(st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=10))
def test_a_scale_of_factors_holds_its_values_and_ticks(values) -> None:
    scale = LogScale.over(values)
    assert all(-1e-9 <= scale.share(value) <= 1 + 1e-9 for value in [*values, *scale.ticks()])
    assert scale.share((scale.low * scale.high) ** 0.5) == pytest.approx(0.5)
