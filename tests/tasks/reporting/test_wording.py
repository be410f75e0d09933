"""What the report's sentences say of figures."""

from __future__ import annotations

import pytest

from tasks.reporting.comparison import judged_in_words
from tasks.reporting.figures.models import calibrated_in_words, moved_in_words
from tasks.reporting.figures.results import best_in_words, leak_in_words
from tasks.reporting.figures.run import budget_in_words
from tasks.reporting.page import duration
from tasks.results.run_queries import interval_text, number, signed

BEST = {"model": "ensemble", "feature_set": "all", "accuracy": 0.470, "rmse": 12.0, "low": None, "high": None}
NEXT = BEST | {"model": "xgboost", "accuracy": 0.464, "rmse": 12.2}
LEAD = {
    "protocol": "cold_start",
    "feature_set": "all",
    "metric": "accuracy",
    "model_a": "ensemble",
    "model_b": "xgboost",
    "value_a": 0.470,
    "value_b": 0.464,
    "ci_low": -0.002,
    "ci_high": 0.014,
    "better": None,
}


@pytest.mark.parametrize(
    ("error", "bias", "said"),
    [
        (0.015, 0.015, "about right, off by 0.015"),
        (0.025, 0.024, "overconfident, off by 0.025"),
        (0.098, -0.090, "underconfident, off by 0.098"),
        (0.098, 0.010, "now over-, now underconfident, off by 0.098"),
    ],
)
def test_the_verdict_on_probabilities_is_that_of_the_number_beside_it(error, bias, said) -> None:
    assert calibrated_in_words(error, bias).startswith(said)


def test_a_change_of_importance_is_told_if_it_can_be_seen() -> None:
    shares = {"tempo": (0.101, 0.102), "duration_ms": (0.092, 0.0875)}
    said = moved_in_words(shares, "published", "cold_start").replace("\u00a0", " ")
    assert said.startswith(" The share of duration_ms changes most with the protocol: from 9.2 % under published")
    assert said.endswith(" to 8.8 % under cold_start.")
    assert moved_in_words({"tempo": (0.1001, 0.1002)}, "published", "cold_start") == ""


@pytest.mark.parametrize(
    ("metric", "changed", "said"),
    [
        ("accuracy", {}, "by 0.006 (95 % interval of the lead -0.002 to +0.014), which may be chance."),
        ("accuracy", {"ci_low": 0.002, "better": "ensemble"}, "by 0.006 (95 % interval of the lead +0.002 to +0.014)."),
        (
            "accuracy",
            {"ci_low": 0.002},
            "+0.002 to +0.014), which may be chance once corrected for the number of models.",
        ),
        ("accuracy", {"value_a": 0.480}, "by 0.006."),  # of newer cells
        ("accuracy", {"protocol": "published"}, "by 0.006."),
        (
            "rmse",
            {"metric": "rmse", "value_a": 12.0, "value_b": 12.2, "ci_low": -0.3, "ci_high": -0.1, "better": "ensemble"},
            "by 0.20 (95 % interval of the lead +0.10 to +0.30).",
        ),
    ],
)
def test_a_lead_comes_with_its_paired_interval(metric, changed, said) -> None:
    assert in_plain_spaces(best_in_words("cold_start", [BEST, NEXT], metric, [LEAD | changed])).endswith(said)
    turned = LEAD | changed
    turned |= {"model_a": "xgboost", "model_b": "ensemble"}
    turned |= {"value_a": turned["value_b"], "value_b": turned["value_a"]}
    turned |= {"ci_low": -turned["ci_high"], "ci_high": -turned["ci_low"]}
    assert in_plain_spaces(best_in_words("cold_start", [BEST, NEXT], metric, [turned])).endswith(said)


def test_a_lead_that_rounds_to_nothing_is_no_lead() -> None:
    equal, lead = NEXT | {"accuracy": 0.4698}, LEAD | {"value_b": 0.4698, "ci_low": -0.004, "ci_high": 0.004}
    assert in_plain_spaces(best_in_words("cold_start", [BEST, equal], "accuracy", [lead])).endswith(
        " xgboost has the same figure, to 3 decimals (95 % interval of the lead -0.004 to +0.004)."
    )


LEAK = {
    "leak": "imputation",
    "metric": "accuracy",
    "model": "xgboost",
    "with_leak": 0.552,
    "without_leak": 0.451,
    "inflation": 0.101,
    "inflation_low": 0.091,
    "inflation_high": 0.110,
}


def test_a_leak_is_told_of_the_model_that_is_best_with_it() -> None:
    svm = LEAK | {"model": "svm", "with_leak": 0.500, "without_leak": 0.390, "inflation": 0.110}
    assert in_plain_spaces(leak_in_words([svm, LEAK])) == (
        "Filling by genre adds 0.101 to xgboost's 0.552: without it the accuracy is 0.451 "
        "(95 % interval of the difference +0.091 to +0.110)."
    )
    assert leak_in_words([LEAK | {"inflation_low": -0.001}]).endswith("which may be chance.")
    rmse = {"metric": "rmse", "with_leak": 11.93, "without_leak": 12.30, "inflation": -0.37, "inflation_low": None}
    worse = LEAK | rmse | {"model": "linear", "with_leak": 13.6}
    assert leak_in_words([worse, LEAK | rmse]) == (
        "Filling by genre takes 0.37 off xgboost's 11.93: without it the RMSE is 12.30."
    )
    nothing = LEAK | {"without_leak": 0.5523, "inflation": -0.0003, "inflation_low": -0.004, "inflation_high": 0.004}
    assert in_plain_spaces(leak_in_words([nothing])) == (
        "Filling by genre makes no difference to xgboost's accuracy of 0.552 "
        "(95 % interval of the difference -0.004 to +0.004)."
    )
    assert "was not measured" in leak_in_words([LEAK | {"leak": "artists"}])


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, ""), (0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min"),
        (80, "1 min 20 s"), (3_599.7, "1 h"), (3_660, "1 h 1 min"), (90_000, "25 h"),
    ],
)  # fmt: skip
def test_durations_are_told_as_people_read_them(seconds, said) -> None:
    assert in_plain_spaces(duration(seconds)) == said


def test_what_rounds_to_nothing_has_no_sign_of_its_own() -> None:
    assert (signed(-0.0004, 3), signed(-0.0006, 3)) == ("+0.000", "-0.001")
    assert (number(-0.0004), number(-0.0006)) == ("0.000", "-0.001")
    assert interval_text(-0.004, -0.001, 2) == "0.00 .. 0.00"


def test_figures_that_cannot_be_judged_are_told() -> None:
    plain = {"results_a": ["a"], "results_b": ["b"], "value_a": 0.5, "value_b": 0.4, "ci_low": None, "ci_high": None}
    others, gone = plain | {"has_same_rows": False}, plain | {"has_same_rows": True}
    better = gone | {"ci_low": 0.05, "ci_high": 0.15}
    assert judged_in_words([others] * 3, "accuracy") == "3 cannot be judged, because the test rows are others"
    assert judged_in_words([better, others, gone, gone | {"results_b": ["a"]}], "accuracy") == (
        "1 are of the very same cell; 1 are better in this run and 0 worse by more than the drawing of test rows "
        "explains; 1 cannot be judged, because the test rows are others; 1 cannot be judged, because files of their "
        "cells are gone"
    )


def in_plain_spaces(text: str) -> str:
    return text.replace("\u00a0", " ")


def test_the_thread_budget_is_told_where_it_was_recorded() -> None:
    run = {"runner": "local", "cells_at_once": 2, "threads_per_cell": 1, "cpu_count": 2}
    assert budget_in_words(run) == "Thread budget: 2 cells at a time, 1 thread per cell, on 2 cores."
    assert "on the workers of a Dask cluster" in budget_in_words(run | {"runner": "dask"})
    assert budget_in_words({"cpu_count": 2}) == "The thread budget was not recorded."
