from __future__ import annotations

import json

import jsonschema
import pytest
from pydantic import TypeAdapter, ValidationError

from flows import deployed, tune
from flows.parameters import Models, StoredModelName
from tasks.models.registry import MODELS
from tasks.storage.warehouse import Warehouse
from tests.helpers.commands import query, refusal

FILE = "settings/popularity/xgboost_tuned@mine.json"


@pytest.mark.long
def test_a_tuning_run_resumes_and_what_it_saves_is_trained(prefect_server, tmp_path, capsys) -> None:
    options = {
        "task": "popularity", "model": "xgboost_tuned", "source": "sample:1000", "warehouse": str(tmp_path),
        "threads": 1,
    }  # fmt: skip
    first = deployed.tune(trials=2, **options)
    best = deployed.tune(trials=4, **options, save="mine")
    assert (first.n_finished, best.n_finished) == (2, 4)
    assert best.committed == first.committed
    assert best.value <= first.value <= first.committed
    assert (first.saved_in, best.saved_in) == (None, FILE)
    home = Warehouse.at(tmp_path)
    assert len(home.files("tuning", "trials")) == 4
    tune.print_best(best, "xgboost_tuned", "mine")
    said = capsys.readouterr().out
    assert f"best of 4 trials: validation rmse {best.value:.4f}" in said
    assert f"Saved: {FILE}\n" in said

    models = ["xgboost_tuned", "xgboost_tuned@mine"]
    train = {"source": "sample:1000", "warehouse": str(tmp_path), "models": models, "budget": "full"}
    deployed.benchmark(**train, protocol="cold_start")
    ours = query(home, "select value, params from results.metrics join results.cells using (run_id, task, model)"
                       " where task = 'popularity' and split = 'val' and slice = 'all' and metric = 'rmse'"
                       " order by model")  # fmt: skip
    assert [value for value, _ in ours] == pytest.approx([best.committed, best.value])
    assert json.loads(ours[1][1]) == MODELS["popularity/xgboost_tuned"].parameters | best.parameters


def test_without_a_name_it_says_how_to_save(capsys) -> None:
    from tasks.training.tuning import Best

    tune.print_best(Best("rmse", 12.5, None, {"max_depth": 3}, 4), "xgboost_tuned", None)
    said = capsys.readouterr().out
    assert "validation rmse 12.5000; committed settings: failed" in said
    assert said.endswith("To train them, save them: the same command with --save NAME\n")


@pytest.mark.parametrize("flow", ["benchmark", "learning_curve"])
def test_settings_that_are_not_saved_are_refused(flow, tmp_path) -> None:
    where = ["--warehouse", str(tmp_path), "--source", "sample:300"]
    assert refusal(*where, "--models", "xgboost_tuned@mine", flow=flow) == (
        f"No settings 'xgboost_tuned@mine' are saved in {tmp_path}. flows.tune saves some: --save."
    )
    (tmp_path / FILE).parent.mkdir(parents=True)
    (tmp_path / FILE).write_text("{}")
    said = refusal(*where, "--models", "knn,xgboost_tuned@me", flow=flow)
    assert said == "Unknown settings 'xgboost_tuned@me'. Known: xgboost_tuned@mine."
    said = refusal(*where, "--models", "xgboost_tuned@mine", flow=flow)
    assert said == f"{FILE}: is no file of settings: it has no `parameters` by name."


@pytest.mark.parametrize("kind", [Models, StoredModelName])
def test_choices_of_models_allow_saved_settings(kind) -> None:
    """In the schema, by which Prefect's server checks parameters, and where the flow checks them."""
    schema = TypeAdapter(kind).json_schema()
    offered = (schema["items"] if kind is Models else schema)["anyOf"]
    assert [one["title"] for one in offered] == ["Model", "MODEL@NAME"]
    assert "xgboost_tuned" in offered[0]["enum"]

    def given(name: str) -> object:
        return [name] if kind is Models else name

    for name in ("xgboost", "xgboost_tuned@mine", "multitask_tuned@2026-11-27"):
        jsonschema.validate(given(name), schema)
        assert TypeAdapter(kind).validate_python(given(name)) == given(name)
    for name in ("xgbost", "xgboost_tuned@", "@mine", "xgboost_tuned@Mine"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(given(name), schema)
    for name in ("xgbost", "@mine", "svm@mine", "study@mine"):
        with pytest.raises(ValidationError, match=r"Unknown model.* Known: .*xgboost_tuned"):
            TypeAdapter(kind).validate_python(given(name))
