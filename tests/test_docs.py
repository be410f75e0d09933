"""What the documents and prefect.yaml say is there, is there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import yaml

from flows.__main__ import COMMANDS
from flows.options import PROGRAM
from tasks.ingest.columns import EXPECTED, PUBLIC_FILES
from tasks.models.registry import GROUPS, MODELS
from tasks.results.descriptions import COMPARED_TABLES
from tasks.results.publish import NEWEST_TABLES, RESULT_TABLES, RESULT_VIEWS
from tasks.specs import BUDGETS, FEATURE_SETS, PROBES, PROTOCOLS, SEVERAL_PROTOCOLS

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    *(file.relative_to(ROOT).as_posix() for file in ROOT.glob("docs/**/*.md")),
]
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS}
MANUAL = "\n".join(text for name, text in TEXTS.items() if name.startswith(("README", "docs/")))
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]


@pytest.mark.parametrize("command", COMMANDS, ids=[command.name for command in COMMANDS])
def test_every_option_and_command_is_documented(command) -> None:
    options = {name for option in command.app().assemble_argument_collection() for name in option.names}
    written = {option for option in options if option.startswith("--")}
    assert {option for option in written if f"`{option}`" not in TEXTS["docs/commands.md"]} == set()
    assert f"`{PROGRAM} {command.name}`" in TEXTS["docs/commands.md"]


NAMES = [
    *(*EXPECTED, *PROTOCOLS, *PROBES, *BUDGETS, *FEATURE_SETS, *GROUPS, *SEVERAL_PROTOCOLS, *PUBLIC_FILES),
    *sorted({spec.model for spec in MODELS.values()}),
    *(*RESULT_TABLES, *COMPARED_TABLES, *NEWEST_TABLES, *RESULT_VIEWS, "newest", "latest"),
]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_documented(name) -> None:
    assert re.search(rf"`[^`]*\b{name}\b[^`]*`", MANUAL), name


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document) -> None:
    assert not re.search(r"@[A-Z]+@|TODO", TEXTS[document])
    for target, heading in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", TEXTS[document]):
        file = (ROOT / document).parent / target if target else ROOT / document
        assert file.exists(), target
        headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE) if heading else []
        assert not heading or heading in [re.sub(r"[^\w -]", "", name).lower().replace(" ", "-") for name in headings]


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name != "docs/tables.md"])  # it is generated
def test_lines_of_prose_are_short(document) -> None:
    prose = re.sub(r"^```.*?^```$", "", TEXTS[document], flags=re.MULTILINE | re.DOTALL)
    without_addresses = re.sub(r"https?://\S+", "", prose)
    assert [line for line in without_addresses.splitlines() if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_deployments_name_flows_and_parameters_that_exist(deployment) -> None:
    module, _, name = deployment["entrypoint"].rpartition(".")
    flow = getattr(importlib.import_module(module), name)
    parameters = deployment.get("parameters", {})
    asked_for = {name: "tracks.csv" for name in flow.parameters.required if name not in parameters}
    assert not (asked_for and deployment.get("schedules"))  # nobody is there to give them
    flow.validate_parameters(parameters | asked_for)
    assert set(parameters) <= set(flow.parameters.properties)


def test_constraints_name_no_address() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert not re.search(r"://| @ ", text)
    pins = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.!+]+", pin) for pin in pins)
