from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.commands import ROOT, clean_environment
from tests.helpers.pages import BROWSER, QUIET


@pytest.fixture
def environment(prefect_server, tmp_path) -> dict[str, str]:
    """For commands that use the tests' Prefect server and a warehouse of their own."""
    from prefect.settings import PREFECT_API_URL

    return clean_environment(PREFECT_API_URL=PREFECT_API_URL.value(), MUSIC_WAREHOUSE=str(tmp_path / "warehouse"))


@pytest.fixture(scope="session")
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
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def look(browser) -> Iterator[Any]:
    """Opens a report; nothing may be fetched, and nothing may have been said in the console when the test ends."""
    said: list[str] = []
    contexts = []

    def opened(path: Path, width: int = 1280, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: None if request.url == path.as_uri() else said.append(request.url))
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [line for line in said if not line.startswith("data:")] == []
