"""Plug-ins in tests: what they register goes again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from unittest import mock

from tasks import plugins
from tasks.models.registry import MODELS
from tasks.specs import FEATURE_SETS, PROTOCOLS
from tasks.storage import duck
from tests.helpers.commands import ROOT

EXAMPLE = ROOT / "examples" / "my_models.py"
IMPORTS = """
from tasks.models.spec import ModelSpec
from tasks.specs import HONEST, LABEL_FREE, FeatureSet, Protocol
"""


@contextmanager
def restored() -> Iterator[None]:
    """Afterwards this process knows no plug-in that was loaded in the block."""
    modules = set(sys.modules)
    with (
        mock.patch.dict(MODELS._specs),
        mock.patch.dict(FEATURE_SETS._specs),
        mock.patch.dict(PROTOCOLS._specs),
        mock.patch.dict(duck.ADDED),
        mock.patch.dict(plugins.LOADED),
    ):
        yield
    stay = (sys.prefix, sys.base_prefix, *(str(ROOT / name) for name in ("flows", "tasks", "tests")))
    for name in set(sys.modules) - modules:
        if not (getattr(sys.modules[name], "__file__", None) or sys.prefix).startswith(stay):
            del sys.modules[name]
    duck._templates.cache_clear()


def written(folder: Path, text: str, name: str = "tried") -> Path:
    """A plug-in's file. Args: text: its module, without the imports of specs."""
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.py"
    file.write_text(IMPORTS + dedent(text), encoding="utf-8")
    return file
