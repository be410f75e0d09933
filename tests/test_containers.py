"""Dockerfile and compose.yaml as they are: what they name is there, and what they start works, without an engine."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import prefect.settings
import pytest
import yaml

from flows import api
from flows.options import parsed
from tasks.storage.warehouse import Warehouse
from tests.helpers.commands import ROOT, clean_environment, query, until

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
POSTGRES = Path("/usr/lib/postgresql")  # Debian's; each version has a folder
SMALL = {"source": "sample:2000", "models": ["linear", "logistic_regression"], "feature_sets": ["all"]}


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name}\s+(.*)$", DOCKERFILE, re.MULTILINE)


IMAGE_ENVIRONMENT = dict(pair.split("=", 1) for line in instructions("ENV") for pair in line.split())
[IMAGE_COMMAND] = [yaml.safe_load(command) for command in instructions("CMD")]
[IMAGE_HEALTH] = [yaml.safe_load(line.split("CMD", 1)[1]) for line in instructions("HEALTHCHECK")]


def command_of(service: dict[str, Any]) -> list[str]:
    return service.get("command", IMAGE_COMMAND)


def environment_of(service: dict[str, Any]) -> dict[str, str]:
    return IMAGE_ENVIRONMENT | service.get("environment", {})


def test_nothing_is_published_but_on_loopback() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    assert [name for name, service in SERVICES.items() if "network_mode" in service] == []


def test_no_secret_is_written_down() -> None:
    secret = [
        (name, str(value))
        for service in SERVICES.values()
        for name, value in service.get("environment", {}).items()
        if "PASSWORD" in name
    ]
    assert len(secret) == 2
    assert all(re.fullmatch(r"\$\{POSTGRES_PASSWORD(:\?.*)?\}", value) for _, value in secret)
    assert ".env" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


def test_the_image_is_not_run_as_root() -> None:
    [user] = instructions("USER")
    assert int(user) > 0
    assert f"--uid {user} " in DOCKERFILE
    assert DOCKERFILE.index("\nUSER ") > DOCKERFILE.rindex("\nRUN ")
    assert [name for name, service in SERVICES.items() if "user" in service or "privileged" in service] == []


def test_the_image_has_the_python_and_the_extras_of_the_project() -> None:
    [base] = instructions("FROM")
    [stated] = re.findall(r"CPython ([\d.]+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert base.startswith(f"python:{stated}-slim")
    [extras] = re.findall(r"'\.\[([\w,]+)\]'", DOCKERFILE)
    assert set(extras.split(",")) == set(PROJECT["project"]["optional-dependencies"]) - {"dev", "peers"}


def test_the_image_gets_what_is_installed_and_no_data() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    sent = {rule[1:] for rule in rules if rule.startswith("!")}
    assert rules[0] == "*"
    assert {name for name in sent if not (ROOT / name).exists()} == set()
    project, tool = PROJECT["project"], PROJECT["tool"]["setuptools"]
    packages = {name.split(".")[0] for name in tool["packages"]["find"]["include"]}
    files = {file for files in tool["data-files"].values() for file in files}
    assert {project["readme"], "pyproject.toml", "constraints.txt", *packages, *files} <= sent
    assert sent & {".git", ".venv", "warehouse", "data", "tests"} == set()


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "postgres"])
def test_commands_and_variables_of_a_service_exist(name) -> None:
    service = SERVICES[name]
    words = " ".join(command_of(service))
    modules = re.findall(r"\bpython -m (\S+)", words)
    assert modules or re.search(r"\bprefect\b", words)
    assert [module for module in modules if find_spec(module) is None] == []
    for variable in environment_of(service):
        if variable.startswith("MUSIC_"):
            assert [file for file in (ROOT / "tasks").rglob("*.py") if f'"{variable}"' in file.read_text("utf-8")]
        elif variable.startswith("PREFECT_"):
            assert hasattr(prefect.settings, variable)
        else:
            assert variable in {"DO_NOT_TRACK", "PYTHONUNBUFFERED"}


def test_the_image_answers_requests_from_outside_the_container() -> None:
    assert IMAGE_COMMAND[:3] == ["python", "-m", "flows.api"]
    asked = parsed(api.COMMAND.app(), IMAGE_COMMAND[3:])
    assert asked
    assert asked[1]["host"] == "0.0.0.0"  # noqa: S104 - of a container
    assert f":{asked[1].get('port', 8000)}/healthz" in IMAGE_HEALTH[-1]
    assert SERVICES["api"]["ports"] == ["127.0.0.1:8000:8000"]
    assert "command" not in SERVICES["api"]
    assert "healthcheck" not in SERVICES["api"]


def test_deploy_does_what_make_deploy_does() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    [recipe] = re.findall(r"^deploy:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    recipe = recipe.replace("PREFECT_API_URL=$(PREFECT_API_URL) ", "").replace(
        " $(if $(NOTIFY),--notify $(NOTIFY))", ""
    )
    recipe = recipe.replace("$(PREFECT)", "prefect").replace("$(PY)", "python").replace("\t", "")
    assert SERVICES["deploy"]["command"] == ["sh", "-ec", recipe]


def test_services_wait_for_what_they_need() -> None:
    needed = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    assert needed == {
        "postgres": {},
        "server": {"postgres": {"condition": "service_healthy"}},
        "deploy": {"server": {"condition": "service_healthy"}},
        "worker": {"deploy": {"condition": "service_completed_successfully"}},
        "api": {},
    }
    mounts = {name: service.get("volumes", []) for name, service in SERVICES.items()}
    assert {name for name in mounts if "warehouse:/warehouse" in mounts[name]} == {"worker", "api"}
    volumes = [volume.rsplit("}", 1)[-1] for mounted in mounts.values() for volume in mounted]
    assert {volume.split(":")[0] for volume in volumes if volume[0] != ":"} == set(COMPOSE["volumes"])
    assert [volume for volume in volumes if ":/data" in volume] == [":/data:ro"]
    assert IMAGE_ENVIRONMENT["MUSIC_WAREHOUSE"] == instructions("VOLUME")[0]


class Host:
    """The services without containers: as processes of this machine, on free ports of loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with ExitStack() as stack:
            names = ("postgres:5432", "server:4200", "127.0.0.1:8080", "127.0.0.1:8000")
            taken = {name: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for name in names}
            self.ports = {name: listening.getsockname()[1] for name, listening in taken.items()}
        self.binaries = max(POSTGRES.glob("*/bin"), key=lambda path: int(path.parent.name))

    def here(self, text: str) -> str:
        """A command's word, or a variable's value, with this machine's addresses in the place of the containers'."""
        for name, port in self.ports.items():
            text = text.replace(name, f"127.0.0.1:{port}")
        text = text.replace("127.0.0.1:4200", f"127.0.0.1:{self.ports['server:4200']}").replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        text = re.sub(r"\$\{POSTGRES_PASSWORD.*\}", "p@ss word/%", text)
        folders = {folder: str(self.folder / folder[1:]) for folder in ("/warehouse", "/tmp/ui")}  # noqa: S108
        return {"postgres": "127.0.0.1", **folders}.get(text, text)

    def environment(self, name: str) -> dict[str, str]:
        own = {key: self.here(value) for key, value in environment_of(SERVICES[name]).items()}
        path = f"{Path(sys.executable).parent}:{self.binaries}:{os.environ['PATH']}"
        ports = {
            "PGPORT": str(self.ports["postgres:5432"]),
            "PREFECT_SERVER_DATABASE_PORT": str(self.ports["postgres:5432"]),
            "PREFECT_SERVER_API_PORT": str(self.ports["server:4200"]),
            "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
            "PREFECT_WORKER_WEBSERVER_PORT": str(self.ports["127.0.0.1:8080"]),
        }
        source = {"MUSIC_SOURCE": ""} if "MUSIC_SOURCE" in own else {}
        home = {"HOME": str(self.folder), "PREFECT_HOME": str(self.folder / f"prefect-{name}")}
        return clean_environment(**own | ports | source | home, PATH=path)

    @contextmanager
    def process(self, name: str, *command: str, user: str | None = None) -> Iterator[None]:
        """A service until the end of the block; it is healthy when the block begins."""
        own = self.environment(name)
        health = SERVICES[name].get("healthcheck", {"test": IMAGE_HEALTH})["test"]
        health = [self.here(word) for word in health if word != "CMD"]
        log = self.folder / f"{name}.log"
        with (
            log.open("wb") as out,
            subprocess.Popen(command, env=own, cwd=ROOT, stdout=out, stderr=out, user=user) as started,
        ):
            try:
                ask = lambda: subprocess.run(health, env=own, capture_output=True, check=False).returncode  # noqa: E731
                until(lambda: started.poll() is not None or ask() == 0, seconds=120.0, every=1.0)
                assert started.poll() is None, log.read_text(encoding="utf-8")
                yield
            finally:
                started.terminate()
                started.wait(60)

    @contextmanager
    def service(self, name: str, *more: str) -> Iterator[None]:
        with self.process(name, *(self.here(word) for word in command_of(SERVICES[name])), *more):
            yield

    def carry_out(self, name: str) -> None:
        """A service that ends."""
        done = subprocess.run(
            command_of(SERVICES[name]),
            env=self.environment(name),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def postgres(self) -> Iterator[None]:
        """What the image of PostgreSQL does with the service's variables: a cluster, a superuser and its database."""
        own = self.environment("postgres")
        user = "nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        data, secret = self.folder / "postgres", self.folder / "password"
        secret.write_text(own["POSTGRES_PASSWORD"], encoding="utf-8")
        data.mkdir()
        for path in (self.folder, data, secret):
            shutil.chown(path, user)
        name = own["POSTGRES_USER"]
        made = ["initdb", "--pgdata", data, "--username", name, "--pwfile", secret, "--auth", "scram-sha-256"]
        subprocess.run([*map(str, made), "--no-sync"], env=own, user=user, capture_output=True, check=True, cwd=data)
        start = ["postgres", "-D", data, "-h", "127.0.0.1", "-k", data, "-p", own["PGPORT"]]
        with self.process("postgres", *map(str, start), user=user):
            self.psql("postgres", f"create database {name}")
            yield

    def psql(self, database: str, sql: str) -> str:
        own = self.environment("postgres")
        own |= {"PGHOST": "127.0.0.1", "PGUSER": own["POSTGRES_USER"], "PGPASSWORD": own["POSTGRES_PASSWORD"]}
        asked = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--dbname", database, "--command", sql]
        return subprocess.run(asked, env=own, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def host() -> Iterator[Host]:
    if not list(POSTGRES.glob("*/bin/postgres")):
        pytest.skip("needs PostgreSQL (Debian: apt-get install postgresql)")
    with tempfile.TemporaryDirectory(dir=Path(tempfile.gettempdir()).parent) as folder:  # PostgreSQL's user sees it
        yield Host(Path(folder))


@pytest.mark.long
def test_the_services_work_together(host) -> None:
    """In the order of depends_on, with the commands, the variables and the health checks of the files."""
    with ExitStack() as stack:
        stack.enter_context(host.postgres())
        stack.enter_context(host.service("server"))
        assert host.psql("prefect", "select count(*) from pg_extension where extname = 'pg_trgm'") == "1"
        for _ in range(2):  # each `docker compose up` does it again
            host.carry_out("deploy")
        stack.enter_context(host.service("worker"))
        url = host.environment("worker")["PREFECT_API_URL"]
        with httpx.Client(base_url=url, timeout=60.0) as prefect_api:
            page = url.removesuffix("/api")
            assert "<html" in prefect_api.get(page, follow_redirects=True).text
            assert prefect_api.get(f"{page}/ui-settings").json()["api_url"] == url
            assert (host.folder / "tmp" / "ui").is_dir()
            deployment = prefect_api.get("/deployments/name/benchmark/nightly").json()
            started = prefect_api.post(f"/deployments/{deployment['id']}/create_flow_run", json={"parameters": SMALL})
            run = f"/flow_runs/{started.json()['id']}"
            over = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
            until(lambda: prefect_api.get(run).json()["state"]["type"] in over, seconds=300.0, every=1.0)
            assert prefect_api.get(run).json()["state"]["name"] == "Completed"
        warehouse = Warehouse.at(host.environment("worker")["MUSIC_WAREHOUSE"])
        assert query(warehouse, "select status from results.runs") == [("completed",)]
        port = host.ports["127.0.0.1:8000"]
        with host.service("api", "--port", str(port)):
            [track] = httpx.post(
                f"http://127.0.0.1:{port}/predict",
                json={
                    "tracks": [{"energy": 0.68, "danceability": 0.7, "loudness": -6.2, "tempo": 96}],
                    "min_features": 4,
                },
                timeout=60.0,
            ).json()["predictions"]
        assert track["predicted_genre"]
        assert track["popularity"] > 0
