from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reporting import bars, plots, sparklines
from tasks.reporting.figures.run import lanes
from tasks.reporting.sparklines import Mark, Scale

finite = st.floats(-1e9, 1e9)


@given(st.lists(finite, min_size=1, max_size=20))
def test_a_scale_holds_what_it_was_made_of_and_its_ticks_lie_within(values) -> None:
    scale = Scale.over(values)
    assert all(0 <= scale.share(value) <= 1 for value in values)
    ticks = scale.ticks()
    assert len(ticks) <= 6
    margin = 1e-6 * (scale.high - scale.low)
    assert all(scale.low - margin <= tick <= scale.high + margin for tick in ticks)


def test_a_scale_of_nothing_or_of_nan_is_usable() -> None:
    assert Scale.over([]).share(0.5) == pytest.approx(0.5)
    assert Scale.over([None, float("nan"), 3.0]).percent(3.0) == "50.00%"
    assert Scale.over([2.0, 4.0], zero=True).low == 0.0


def test_marks_stand_at_their_values() -> None:
    drawn = sparklines.dots(Scale(0, 10), [Mark(5, 2.5, 7.5, series=1), None], line=0)
    assert 'x1="25.00%"' in drawn
    assert 'x2="75.00%"' in drawn
    assert 'x="50.00%"' in drawn
    assert 'aria-hidden="true"' in drawn
    assert sparklines.mark(0) != sparklines.mark(1)


def test_a_span_has_its_length_and_nothing_has_none() -> None:
    assert 'x="20.00%" y="4" width="30.00%"' in sparklines.span(Scale(0, 10), 2, 5)
    assert 'width="0.00%"' in sparklines.span(Scale(0, 10), 2, 2)
    assert 'width="0.30%"' in sparklines.span(Scale(0, 1e6), 0, 1)


def test_text_and_attributes_are_escaped() -> None:
    bad = '"><script>x</script>'
    assert "<script>" not in sparklines.tag("text", bad, title=bad)
    drawn = plots.matrix([bad], [bad], [[1.0]], str, lambda value: value, bad)
    assert "<script>" not in drawn


def test_a_small_matrix_has_numbers_and_a_large_one_a_path_a_shade() -> None:
    def drawn(n: int) -> str:
        names = [f"g{i}" for i in range(n)]
        values = [[(i + j) % n / n for j in range(n)] for i in range(n)]
        return plots.matrix(names, names, values, lambda v: f"{v:.2f}", lambda v: v, "A matrix.", least=0.001)

    assert len(re.findall("<text", drawn(10))) == 10 * 9 + 20  # a diagonal is empty
    assert "<text" not in drawn(100)
    assert len(re.findall("<path", drawn(100))) == plots.SHADES
    assert 'aria-label="A matrix."' in drawn(100)


def test_the_labels_of_a_matrix_have_the_room_they_need() -> None:
    def places(rows: list[str], columns: list[str]) -> tuple[str, float, float]:
        values = [[0.5] * len(columns)] * len(rows)
        drawn = plots.matrix(rows, columns, values, str, lambda value: value, "A matrix.")
        box, frame = re.findall(r'viewBox="0 0 400 (\d+)".*<rect x="([\d.]+)"', drawn)[0]
        return drawn, float(box), float(frame)

    drawn, short, left = places(["Jazz", "Rap"], ["Jazz", "Rap"])
    drawn, high, wide = places(["instrumentalness", "Rap"], ["logistic_regression", "Rap"])
    assert ">instrumentalness<" in drawn
    assert ">logistic_regression<" in drawn
    assert wide - left == pytest.approx(12 * plots.LETTER, abs=0.2)
    assert high > short
    drawn, _, _ = places(["x" * 300], ["a"])
    assert f">{'x' * 23}…<title>{'x' * 300}</title><" in drawn


def test_cells_that_overlap_stand_in_lanes_of_their_own() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)

    def cell(start: float, end: float) -> dict:
        return {"started_at": begin + timedelta(seconds=start), "finished_at": begin + timedelta(seconds=end)}

    cells = [cell(0, 3), cell(1, 2), cell(2, 5), cell(3, 4)]
    assert lanes(cells) == [[cells[0], cells[3]], [cells[1], cells[2]]]
    assert lanes([]) == []


def test_intervals_of_text_share_one_scale() -> None:
    assert bars.intervals([(0.0, 5.0, 10.0), (10.0, 15.0, 15.0), (None, 0.0, None)], "utf-8") == [
        "├────●────┤     ",
        "          ├────●",
        "●               ",
    ]
    assert bars.intervals([(0.0, 1.0, 2.0)], "ascii") == ["|-------o------|"]
    assert bars.intervals([], "utf-8") == []


def test_bars_of_text_are_as_long_as_their_values() -> None:
    assert bars.bar(1, 1, "utf-8") == "█" * 6
    assert bars.bar(0.5, 1, "ascii") == "###"
    assert [bars.bar(0, most, "utf-8") for most in (0, 1)] == ["", ""]
    assert bars.bar(1 / 12, 1, "utf-8") == "▌"
