"""prefect.yaml as it is, a worker that runs what it declares, from the checkout and from an installed wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from flows.deployed import benchmark
from tasks.storage.warehouse import Warehouse
from tests.helpers.commands import ROOT, clean_environment, query, until

pytestmark = pytest.mark.long
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
SMALL = {"source": "sample:2000", "models": ["linear"], "feature_sets": ["all"], "protocol": "published"}


def prefect(environment: dict[str, str], *arguments: str, cwd: Path = ROOT) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments], env=environment, cwd=cwd, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def prefect_api(prefect_server) -> httpx.Client:
    from prefect.settings import PREFECT_API_URL

    return httpx.Client(base_url=PREFECT_API_URL.value(), timeout=60.0)


@pytest.fixture(scope="module")
def of_worker(prefect_api, tmp_path_factory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("deployed")
    url = str(prefect_api.base_url).rstrip("/")
    return clean_environment(PREFECT_API_URL=url, PREFECT_HOME=str(home), MUSIC_WAREHOUSE=str(home / "warehouse"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A folder with the project installed from a wheel."""
    source, built, installed = (tmp_path_factory.mktemp(name) for name in ("source", "built", "installed"))
    for name in ("flows", "tasks", "sql"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "prefect.yaml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", built, source], check=True)
    [file] = built.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", installed, file], check=True)
    return installed


@pytest.fixture(scope="module")
def deployed(of_worker, prefect_api) -> dict[str, dict]:
    """What the server knows of each deployment, by its name."""
    prefect(of_worker, "work-pool", "create", "--overwrite", "--type", "process", "local-process")
    prefect(of_worker, "--no-prompt", "deploy", "--all")
    found = prefect_api.post("/deployments/filter", json={}).json()
    return {deployment["name"]: deployment for deployment in found}


def start(prefect_api: httpx.Client, deployment: dict, **parameters: object) -> str:
    answer = prefect_api.post(f"/deployments/{deployment['id']}/create_flow_run", json={"parameters": parameters})
    answer.raise_for_status()
    return answer.json()["id"]


def state_of(prefect_api: httpx.Client, run_id: str) -> dict:
    return prefect_api.get(f"/flow_runs/{run_id}").json()["state"]


def is_over(prefect_api: httpx.Client, run_id: str) -> bool:
    return state_of(prefect_api, run_id)["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def test_every_deployment_is_declared_as_its_flow_is(deployed) -> None:
    assert set(deployed) == {declared["name"] for declared in DEPLOYMENTS}
    for declared in DEPLOYMENTS:
        found = deployed[declared["name"]]
        assert found["description"]
        assert set(found["parameters"]) <= set(found["parameter_openapi_schema"]["properties"])
        for name, parameter in found["parameter_openapi_schema"]["properties"].items():
            assert parameter.get("description"), name
        assert [schedule["schedule"]["timezone"] for schedule in found["schedules"]] == [
            schedule["timezone"] for schedule in declared.get("schedules", [])
        ]
        if "concurrency_limit" in declared:
            assert found["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"


@pytest.mark.parametrize(
    "wrong",
    [
        {"protocol": "cold"}, {"models": ["xgb"]}, {"max_reject_share": 2}, {"seeds": [-1]}, {"workers": 0},
        {"budget": "huge"}, {"min_genre_rows": "many"}, {"cell_memory": 0},
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_refused_by_the_server(wrong, deployed, prefect_api) -> None:
    answer = prefect_api.post(f"/deployments/{deployed['nightly']['id']}/create_flow_run", json={"parameters": wrong})
    assert answer.is_client_error
    assert next(iter(wrong)) in answer.text or "Validation failed" in answer.text


def test_the_flow_refuses_what_the_server_refuses() -> None:
    from prefect.exceptions import ParameterTypeError

    with pytest.raises(ParameterTypeError, match="Unknown protocol 'cold'"):
        benchmark.validate_parameters({"protocol": "cold"})


@pytest.mark.parametrize("place", ["checkout", "wheel"])
def test_a_worker_runs_what_is_deployed(place, deployed, of_worker, prefect_api, wheel, tmp_path, monkeypatch) -> None:
    """Of two nightly runs that are due at once one is cancelled; the other publishes, wherever the code comes from."""
    of_worker = of_worker | {"MUSIC_WAREHOUSE": str(tmp_path / "warehouse")}
    folder = ROOT
    if place == "wheel":
        folder = tmp_path
        of_worker["PYTHONPATH"] = str(wheel)
        where = [sys.executable, "-c", "import flows; print(flows.__file__)"]
        found = subprocess.run(where, env=of_worker, cwd=folder, capture_output=True, text=True, check=True)
        assert found.stdout.startswith(str(wheel))
        declared = wheel / "share" / "music-benchmark" / "prefect.yaml"
        prefect(of_worker, "--no-prompt", "deploy", "--all", "--prefect-file", str(declared), cwd=folder)
    runs = [start(prefect_api, deployed["nightly"], **SMALL) for _ in range(2)]
    worker = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "local-process"]
    with subprocess.Popen(
        worker, env=of_worker, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            until(lambda: all(is_over(prefect_api, run) for run in runs), seconds=200.0, every=0.5)
        finally:
            process.terminate()
    ended = {state_of(prefect_api, run)["type"]: run for run in runs}
    assert set(ended) == {"COMPLETED", "CANCELLED"}
    home = Warehouse.at(tmp_path / "warehouse")
    assert query(home, "select status, flow_run_id from results.runs") == [("completed", ended["COMPLETED"])]
