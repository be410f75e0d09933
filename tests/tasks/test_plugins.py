"""Plug-ins: what they add is trained, checked and predicted as the project's own is, and their faults are one line."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from flows.deployed import benchmark
from tasks import plugins
from tasks.compute.processes import Processes
from tasks.errors import CheckError, PluginError
from tasks.features.build import build_features
from tasks.ingest.read import Append, ingest
from tasks.models.registry import MODELS
from tasks.plugins import load_plugins, loaded_files
from tasks.prediction import champions
from tasks.prediction.candidates import lineage
from tasks.prediction.preparation import FittedStatistics, prepare, read_rows
from tasks.reporting.report import write_report
from tasks.specs import ALL, FEATURE_SETS, PROTOCOLS, Cell, protocols_of
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse
from tasks.training import cell_key as keys
from tasks.training.cell_process import train_job
from tasks.training.grid import plan_cells
from tasks.training.jobs import Job, make_jobs
from tests.helpers.commands import ROOT, query
from tests.helpers.plugging import EXAMPLE, restored, written
from tests.helpers.runs import make_run
from tests.helpers.stored import candidate

MODEL = """
    def build(parameters, seed, n_jobs):
        from sklearn.linear_model import Ridge
        return Ridge(**parameters)

    MODELS = [ModelSpec(model="mine", task="popularity", build=build, parameters={}, cost=1)]
"""
FILL = """
    PROTOCOLS = [Protocol(name="mine", description="", fill="protocols/mine/fill", split="study", checks=HONEST)]
    SQL = {{"protocols/mine/fill": '''
        with learnt as (
            select {{% for name in audio_features %}} {learnt} as {{{{ name }}}}, {{% endfor %}}
            from staging.stg_tracks as tracks
            inner join features.split_assignment as split on tracks.track_id = split.track_id
            where {where}
        )
        select $protocol as protocol, feature_name, 'fill' as statistic, cast(null as varchar) as genre, value
        from (unpivot learnt on * into name feature_name value value)
    '''}}
"""
SET = """
    FEATURE_SETS = [FeatureSet(name="mine", columns={columns})]
"""


@pytest.fixture
def registered() -> Iterator[None]:
    with restored():
        yield


@pytest.fixture
def example(registered) -> None:
    load_plugins([str(EXAMPLE)])


def job_of(home: Warehouse, protocol: str, model: str, feature_set: str, source: str = "sample:2000") -> Job:
    tables = build_features(ingest(source, {}, 0.05, home), protocol, 20, home)
    cells = plan_cells([protocol], "smoke", [model], [feature_set], [42])
    [job] = make_jobs(cells, tables, "20260101T000000-test", home, 1)
    return job


def test_what_a_file_adds_is_known_once_it_is_loaded(registered) -> None:
    for _ in range(2):
        load_plugins([str(EXAMPLE)])
    assert loaded_files() == (str(EXAMPLE),)
    assert "genre/hist_gradient_boosting" in MODELS
    assert FEATURE_SETS["interactions"].audio_features == set(ALL)
    assert protocols_of("all")[: len(PROTOCOLS)] == ["published", "label_free", "cold_start", "median"]
    assert protocols_of("main") == ["published", "label_free", "cold_start"]
    trained = {(cell.model, cell.feature_set) for cell in plan_cells(["median"], "smoke", [], ["interactions"], [42])}
    assert {("hist_gradient_boosting", "interactions"), ("xgboost_tuned", "interactions")} <= trained


@pytest.mark.slow
def test_the_blocks_of_the_page_are_a_plugin(registered, tmp_path, warehouse) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "plugins.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 3
    load_plugins([str(written(tmp_path, "\n".join(blocks)))])
    job = job_of(warehouse, "largest", "nearest_centroid", "mood")
    with Processes(threads=1, timeout=100) as processes:
        ended = processes.run(train_job, job, warehouse.temporary("log"))
    assert ended.error is None
    assert rows_of(warehouse, job)["is_fast"].unique().sort().to_list() == [0.0, 1.0]


def test_the_environment_names_files(registered, monkeypatch) -> None:
    monkeypatch.setenv("MUSIC_PLUGINS", f" {os.path.relpath(EXAMPLE)} ,")
    load_plugins()
    assert loaded_files() == (str(EXAMPLE),)


def test_a_flow_takes_names_of_the_plugins_that_it_is_given(registered) -> None:
    chosen = {"plugins": [str(EXAMPLE)], "protocol": "median", "feature_sets": ["interactions"]}
    assert benchmark.validate_parameters(chosen)["protocol"] == "median"


REFUSED = {
    "import nothing_of_this_name": "cannot be imported (ModuleNotFoundError: No module named 'nothing_of_this_name')",
    "1 +": "cannot be imported (SyntaxError: ",
    "raise SystemExit(3)": "cannot be imported (SystemExit: 3)",
    "": "adds nothing: none of MODELS, FEATURE_SETS, PROTOCOLS has an entry.",
    "MODELS = 3": "MODELS must be a list or a tuple of ModelSpec.",
    "MODELS = [FeatureSet(name='a', columns={'b': 'energy'})]": "MODELS must be a list or a tuple of ModelSpec.",
    MODEL.replace("mine", "ridge"): "MODELS registers 'popularity/ridge', a name that is taken.",
    MODEL + "    MODELS *= 2": "MODELS registers 'popularity/mine', a name that is taken.",
    MODEL.replace("mine", "my model"): "model 'my model': a name has lower-case letters",
    MODEL.replace('"popularity"', '"loudness"'): "task is 'loudness'. Known: genre, popularity, multitask.",
    MODEL.replace("cost=1", "cost=1, group='own'"): "group is 'own'. Known: study, better, single_head.",
    MODEL.replace("cost=1", "cost=1, feature_sets=('all', 'some')"): "there is no feature set 'some'.",
    MODEL.replace("build=build", "build=print"): "build must be a function",
    MODEL.replace("parameters={}", "parameters={'a': print}"): "its parameters cannot be written as JSON",
    SET.format(columns={"popularity": "energy"}): "a column cannot be called 'popularity'.",
    SET.format(columns={"b": "popularity"}): 'Column "popularity" referenced by generated column does not exist',
    SET.format(columns={"b": "energy * "}): "syntax error",
    SET.format(columns={"b": "avg(energy)"}): "Aggregate functions are not supported here",
    SET.format(columns={"b": "avg(energy) over ()"}): "Window functions are not supported here",
    SET.format(columns={"b": "(select 1)"}): "contains a subquery",
    SET.format(columns={"b": "energy + random()"}): "random() may give another value each time",
    SET.format(columns={"b": "epoch(now())"}): "now() may give another value each time",
    SET.format(columns=()): "give `columns`",
    SET.format(columns="('energy',), table='tracks_std'"): "without `table`",
    FILL.format(learnt="0", where="true").replace('split="study"', 'split="mine"'): "split is 'mine'.",
    FILL.format(learnt="0", where="true").replace("checks=HONEST", "checks=('mine',)"): "no SELECT 'checks/mine'",
    FILL.format(learnt="0", where="true").replace(
        'fill="protocols', 'fill="protocol'
    ): "no SELECT 'protocol/mine/fill'",
    FILL.format(learnt="0", where="true").replace("staging.stg_tracks", "features.tracks_std"): (
        "learnt from features.tracks_std, which is made from them"
    ),
    FILL.format(learnt="0", where="true").replace("protocols/mine/fill", "protocols/label_free/fill_values"): (
        "SQL has 'protocols/label_free/fill_values', a name that is taken."
    ),
    FILL.format(learnt="0", where="true").replace('name="mine"', 'name="all"'): "registers 'all', a name that is taken",
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.items(), ids=range(len(REFUSED)))
def test_a_fault_is_one_line_and_nothing_is_registered(text, reason, registered, tmp_path) -> None:
    before = ([*MODELS], [*FEATURE_SETS], [*PROTOCOLS], dict(duck.ADDED))
    file = written(tmp_path, text)
    with pytest.raises(PluginError) as refused:
        load_plugins([str(file)])
    assert str(refused.value).startswith(f"plug-in {file}: ")
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert ([*MODELS], [*FEATURE_SETS], [*PROTOCOLS], dict(duck.ADDED)) == before
    assert loaded_files() == ()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere.py", "there is no such file"),
        ("my-models.py", "is no Python file whose name can be a module's"),
        ("notes.txt", "is no Python file"),
        ("xgboost.py", "there is another module 'xgboost'"),
    ],
)
def test_a_file_must_be_a_module_of_its_own(name, reason, registered, tmp_path) -> None:
    if name != "nowhere.py":
        (tmp_path / name).write_text("MODELS = []", encoding="utf-8")
    with pytest.raises(PluginError, match=reason):
        load_plugins([str(tmp_path / name)])


def key_of(name: str, task: str = "popularity") -> str:
    cell = Cell(protocol="label_free", task=task, model=name, feature_set="all", seed=42, budget="full")
    return keys.cell_key(cell, "0" * 16)


def key_with(folder: Path, text: str) -> str:
    with restored():
        load_plugins([str(written(folder, text))])
        for cached in (keys.code_version, keys._code, keys._imports):
            cached.cache_clear()
        return key_of("mine")


def test_the_code_of_a_plugin_is_in_the_keys_of_its_cells_and_of_no_others(example, tmp_path) -> None:
    others = {name: key_of(name) for name in ("linear", "xgboost")}
    own = key_with(tmp_path, MODEL)
    assert {name: key_of(name) for name in others} == others
    assert key_with(tmp_path / "elsewhere", f"{MODEL}    # a comment\n    SQL = {{}}\n") == own
    assert key_with(tmp_path, MODEL.replace("Ridge(**", "Ridge(alpha=2.0, **")) != own
    assert key_with(tmp_path, MODEL + "\n    FACTOR = 2\n") != own


def test_a_package_names_its_plugin_and_its_helpers_are_in_the_key(registered, tmp_path, monkeypatch) -> None:
    package, found = tmp_path / "tried_package", tmp_path / "tried_package-1.dist-info"
    for folder in (package, found):
        folder.mkdir()
    (package / "__init__.py").touch()
    own = MODEL.replace("build(p", "made(p").replace("build=build", "build=made")
    written(package, own.replace("def made", "from .helper import FACTOR\n    def made"), "models")
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: tried-package\nVersion: 1\n")
    (found / "entry_points.txt").write_text("[music_benchmark.models]\nmine = tried_package.models\n")
    monkeypatch.syspath_prepend(tmp_path)
    made = []
    for helper in ("FACTOR = 1", "FACTOR = 1  # the same", "FACTOR = 2"):
        (package / "helper.py").write_text(helper)
        plugins._installed.cache_clear()
        with restored():
            load_plugins()
            assert loaded_files() == ()  # another process finds it by itself
            for cached in (keys.code_version, keys._code, keys._imports):
                cached.cache_clear()
            assert keys.family_modules(MODELS["popularity/mine"]) == ["tried_package.helper", "tried_package.models"]
            made.append(key_of("mine"))
    plugins._installed.cache_clear()
    assert made[0] == made[1] != made[2]


@pytest.mark.slow
def test_a_model_that_cannot_be_read_back_fails_its_cell_and_is_not_stored(registered, tmp_path, warehouse) -> None:
    text = EXAMPLE.read_text("utf-8")
    [line] = [line for line in text.splitlines() if "trusted_types" in line]
    file = tmp_path / "untrusting.py"
    file.write_text(text.replace(line, ""), encoding="utf-8")
    load_plugins([str(file)])
    job = job_of(warehouse, "label_free", "hist_gradient_boosting", "all")
    with Processes(threads=1, timeout=100) as processes:
        ended = processes.run(train_job, job, warehouse.temporary("log"))
    assert ended.status == "failed"
    assert "genre/hist_gradient_boosting cannot be stored" in str(ended.error)
    assert "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor" in str(ended.error)
    assert "trusted_types" in str(ended.error)
    assert not job.is_stored


@pytest.mark.slow
def test_a_plugin_that_is_gone_fails_its_cell(registered, tmp_path, warehouse) -> None:
    file = written(tmp_path, MODEL)
    load_plugins([str(file)])
    job = job_of(warehouse, "label_free", "mine", "all")
    file.unlink()
    with Processes(threads=1, timeout=100) as processes:
        ended = processes.run(train_job, job, warehouse.temporary("log"))
    assert (ended.status, ended.error) == ("failed", f"PluginError: plug-in {file}: there is no such file.")


@pytest.mark.slow
@pytest.mark.parametrize("learnt", ["avg({{ name }})", "max({{ name }})", "quantile_cont({{ name }}, 0.5)"])
def test_any_fill_of_training_rows_passes_the_honest_checks(learnt, registered, tmp_path, warehouse) -> None:
    load_plugins(
        [str(written(tmp_path, FILL.format(learnt=f"cast({learnt} as double)", where="split.split = 'train'")))]
    )
    assert build_features(ingest("sample:2000", {}, 0.05, warehouse), "mine", 20, warehouse)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["true", "split.split <> 'test'", "split.split = 'val'"])
def test_a_fill_of_other_rows_is_caught(where, registered, tmp_path, warehouse) -> None:
    fill = FILL.format(learnt="cast(quantile_cont({{ name }}, 0.5) as double)", where=where)
    load_plugins([str(written(tmp_path, fill))])
    with pytest.raises(CheckError, match="learnt_from_training_rows"):
        build_features(ingest("sample:2000", {}, 0.05, warehouse), "mine", 20, warehouse)


def rows_of(home: Warehouse, job: Job) -> pl.DataFrame:
    return pl.read_parquet(home.root / job.table).sort("track_id")


@pytest.mark.slow
def test_columns_are_the_expressions_of_z_scores_and_of_values_in_their_units(example, warehouse) -> None:
    job = job_of(warehouse, "median", "hist_gradient_boosting", "interactions")
    made, tables = rows_of(warehouse, job), lineage(job.feature_version, warehouse)
    std, clean = (
        pl.read_parquet(warehouse.root / tables[f"features.{name}"].path).sort("track_id")
        for name in ("tracks_std", "tracks_clean")
    )
    angle = 2 * math.pi * clean["key_code"] / 12
    expected = {"energy_x_valence": std["energy"] * std["valence"], "key_sine": angle.sin(), "tempo": std["tempo"]}
    for name, values in expected.items():
        assert np.allclose(made[name], values), name


@pytest.mark.slow
def test_tracks_are_prepared_for_prediction_as_for_training(example, warehouse) -> None:
    job = job_of(warehouse, "median", "hist_gradient_boosting", "interactions")
    tables = lineage(job.feature_version, warehouse)
    fitted = FittedStatistics.of(tables, [], warehouse)
    with duck.workspace(warehouse.scratch) as connection:
        staged = warehouse.root / tables["staging.stg_tracks"].path
        connection.execute(f"create table staging.typed_tracks as from read_parquet('{staged}')")
        connection.execute("create table raw.rejects as select 0 as row_number where false")
        prepared = pl.from_arrow(prepare(connection, fitted, 1, 2000)).sort("track_id")
    stored = rows_of(warehouse, job)
    assert len(prepared) == len(stored) == 2000
    for name in FEATURE_SETS["interactions"].columns:
        assert np.allclose(prepared[name], stored[name], rtol=0, atol=1e-12), name


@pytest.mark.slow
def test_a_value_that_is_not_finite_stops_a_build_by_name(registered, tmp_path, warehouse) -> None:
    load_plugins([str(written(tmp_path, SET.format(columns={"b": "energy", "c": "1 / (clean_mode_code - 1)"})))])
    with pytest.raises(CheckError, match=r'features\.set_mine of protocol label_free .* column "c", 1 / .*track_id \d'):
        build_features(ingest("sample:2000", {}, 0.05, warehouse), "label_free", 20, warehouse)
    assert not list((warehouse.root / "features").glob("set_mine/*.parquet"))


@pytest.mark.slow
def test_a_new_track_without_a_finite_value_is_predicted_as_unlike_training(registered, tmp_path, warehouse) -> None:
    load_plugins([str(written(tmp_path, SET.format(columns={"b": "ln(clean_tempo + 1 - 1)"})))])
    job = job_of(warehouse, "label_free", "linear", "mine")
    fitted = FittedStatistics.of(lineage(job.feature_version, warehouse), [], warehouse)
    with duck.workspace(warehouse.scratch) as connection:
        read_rows(connection, [{"tempo": 120.0, "energy": 0.5}, {"tempo": 120.0, "energy": 0.5}])
        connection.execute("update staging.typed_tracks set tempo = 0 where row_number = 2")
        prepared = prepare(connection, fitted, 1, 2).to_pylist()
    assert [row["b"] for row in prepared] == [pytest.approx(math.log(120)), 0]
    assert prepared[1]["is_unlike_training"]


@pytest.mark.slow
def test_appended_tracks_have_the_columns_of_a_set(example, warehouse) -> None:
    base = ingest("sample:2000", {}, 0.05, warehouse)
    build_features(base, "median", 20, warehouse)
    more = ingest("sample:2500", {}, 1.0, warehouse, Append(base.snapshot, "kept"))
    built = {table.table_name: table for table in build_features(more, "median", 20, warehouse)}
    table = duckdb.read_parquet(f"{warehouse.root / built['features.set_interactions'].path}/*.parquet")
    assert table.aggregate("count(*), count(energy_x_valence)").fetchall() == [(2500, 2500)]


def test_a_champion_of_a_plugin_needs_it(example, warehouse, monkeypatch) -> None:
    own = candidate(warehouse, "own", 0.5, protocol="median")
    assert own.tier == candidate(warehouse, "other", 0.5).tier  # both keep artists apart
    stored = champions.Champion(candidate=own, calibration=None, chosen_at=None, replaced=None, reason="")
    monkeypatch.setattr(champions, "current", lambda _: [stored])
    assert champions.predictors(warehouse, None, 1) == {"genre": stored}
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(PROTOCOLS._specs, "median")
        with pytest.raises(PluginError, match=r"protocol 'median' is of a plug-in that is not loaded.*--plugins"):
            champions.predictors(warehouse, None, 1)
        assert champions._obstacle(own, warehouse) == "protocol 'median' is of a plug-in that is not loaded"


@pytest.mark.slow
def test_results_of_a_plugin_stay_published_without_it(tmp_path, warehouse) -> None:
    asked = "select model, protocol, feature_set, rmse from results.leaderboard"
    with restored():
        load_plugins([str(EXAMPLE), str(written(tmp_path, MODEL))])
        run_id = make_run(warehouse, "sample:2000", ["mine"], ["all", "interactions"], protocols=["median"])
        found = query(warehouse, asked)
        [sets] = query(warehouse, "select columns from results.feature_sets where feature_set = 'interactions'")
        assert "energy_x_valence" in sets[0]
        assert query(warehouse, "select count(key_sine) from features.set_interactions") == [(2000,)]
    assert {row[:3] for row in found} == {("mine", "median", name) for name in ("all", "interactions")}
    make_run(warehouse, "sample:2000", ["linear"], ["all"])
    assert {*found} < {*query(warehouse, asked)}
    report = write_report(run_id, warehouse, tmp_path / "report.html")
    assert re.search(r"<th[^>]*>interactions<", report.read_text("utf-8"))


@pytest.mark.slow
def test_without_plugins_nothing_is_imported_for_them() -> None:
    code = "import sys; from tasks.plugins import load_plugins; load_plugins(); print('sklearn' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False"]
