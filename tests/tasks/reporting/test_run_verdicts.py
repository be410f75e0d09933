"""What changed from one run to another: figures on the same test rows are judged, others are not."""

from __future__ import annotations

import json

import pytest
from sklearn.linear_model import LinearRegression

from flows import report
from tasks.errors import UserError
from tasks.reporting import run_verdicts
from tasks.storage.warehouse import Warehouse
from tests.helpers.commands import carry_out, refusal
from tests.helpers.runs import make_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def worse_model(tmp_path_factory) -> tuple[Warehouse, str, str]:
    """A run, and one after it in which the linear model has learnt no more than a mean."""
    home = Warehouse.at(tmp_path_factory.mktemp("worse"))
    before = make_run(home, "sample:1000", ("linear", "knn"))
    fit = LinearRegression.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LinearRegression, "fit", lambda self, x, y, *more: fit(self, 0 * x, y, *more))
        after = make_run(home, "sample:1000", ("linear",), refresh=True)
    return home, before, after


def test_a_worse_metric_is_told_and_its_exit_code_is_2(worse_model, capsys) -> None:
    home, before, after = worse_model
    asked = ["--warehouse", str(home.root), "--compare", before, after, "--fail-if-worse", "rmse,r2"]
    outcome = carry_out(report.COMMAND, *asked, "--format", "json")
    outcome.show()
    told = capsys.readouterr()
    assert outcome.code == 2
    assert json.loads(told.out)["worse"] == outcome.facts["worse"] == 2
    assert "worse: rmse of linear on all (published)" in told.err
    assert "2 of 2 figures of rmse, r2 got worse" in told.err
    [rmse] = [row for row in outcome.facts["figures"] if row["metric"] == "rmse"]
    assert rmse["difference"] == pytest.approx(rmse["after"] - rmse["before"])
    assert 0 < rmse["ci_low"] < rmse["difference"] < rmse["ci_high"]
    carry_out(report.COMMAND, *asked, "--format", "md").show()
    table = capsys.readouterr().out
    assert "| **worse** |" in table
    assert "| mae |" not in table


def test_the_other_way_round_it_got_better(worse_model) -> None:
    home, before, after = worse_model
    found = run_verdicts.of_runs(before, after, ["rmse"], home)
    assert [row["verdict"] for row in found.figures if row["metric"] == "rmse"] == ["better"]
    assert not found.worse


def test_a_cell_that_was_reused_is_the_same(worse_model) -> None:
    home, before, _ = worse_model
    again = make_run(home, "sample:1000", ("knn",))
    found = run_verdicts.of_runs(again, before, ["accuracy"], home)
    assert {row["verdict"] for row in found.figures} == {"same cell"}
    assert {row["difference"] for row in found.figures} == {0.0}


def test_what_cannot_be_judged_fails_no_pipeline_in_silence(worse_model) -> None:
    home, before, after = worse_model
    with pytest.raises(UserError, match="--fail-if-worse accuracy: the two runs have no figure of it"):
        run_verdicts.of_runs(after, before, ["accuracy"], home)
    others = make_run(home, "sample:1500", ("linear",))
    with pytest.raises(UserError, match=r"--fail-if-worse rmse: .* on the same test rows"):
        run_verdicts.of_runs(others, before, ["rmse"], home)
    assert {row["verdict"] for row in run_verdicts.of_runs(others, before, [], home).figures} == {"other test rows"}


def test_a_model_that_failed_has_got_worse(worse_model) -> None:
    home, before, _ = worse_model
    after = make_run(home, "sample:1000", ("knn", "linear"), errors={"knn": "no memory"})
    found = run_verdicts.of_runs(after, before, ["accuracy"], home)
    assert [row["model"] for row in found.broken] == ["knn"]
    assert "worse: knn on all (published) has no result any more, failed: no memory" in found.gate
    asked = ["--warehouse", str(home.root), "--compare", before, after, "--fail-if-worse"]
    assert carry_out(report.COMMAND, *asked, "accuracy").code == 2
    assert run_verdicts.of_runs(after, before, ["rmse"], home).broken == []


def test_a_format_is_of_a_comparison(worse_model) -> None:
    where = ["--warehouse", str(worse_model[0].root)]
    for options in (["--format", "md"], ["--fail-if-worse", "rmse"]):
        assert "are of a comparison: add --compare" in refusal(*where, *options, flow="report")
    two = ["--run", worse_model[1], "--compare", *worse_model[1:]]
    assert "--compare names both runs already" in refusal(*where, *two, flow="report")
