"""Models for tests of faults: they do on demand what real ones do seldom.

Python imports this file by itself in each process with the folder in PYTHONPATH: the command's and those of its cells.
`sleeps` takes $SCRIPTED_SECONDS, by default a minute; `raises` raises; `grows` takes more and more memory. All three
leave a file named after their process in $SCRIPTED_FOLDER when their fit begins.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tasks.models import linear
from tasks.models.spec import ModelSpec


def sleep() -> None:
    """Sleeps."""
    time.sleep(float(os.environ.get("SCRIPTED_SECONDS", "60")))


def fail() -> None:
    """Raises an error."""
    raise ImportError("libmodel.so: not found")


def grow() -> None:
    """Takes 20 MiB of memory a time, up to 2 GB."""
    taken = []
    for _ in range(100):
        taken.append(b"x" * (20 << 20))
        time.sleep(0.02)


def scripted(name: str, act: Any) -> ModelSpec:
    """Returns a model that acts before it is fitted as a linear regression."""

    def build(parameters: Any, seed: int, n_jobs: int) -> Any:
        estimator = linear.linear(parameters, seed, n_jobs)
        fit = estimator.fit

        def act_and_fit(*data: Any) -> Any:
            (Path(os.environ["SCRIPTED_FOLDER"]) / str(os.getpid())).touch()
            act()
            return fit(*data)

        estimator.fit = act_and_fit
        return estimator

    build.__module__ = linear.__name__  # whose code is in the key of its cells
    return ModelSpec(
        model=name, task="popularity", build=build, parameters={}, importance="coefficient", keeps_model=False, cost=9
    )


linear.MODELS += (scripted("sleeps", sleep), scripted("raises", fail), scripted("grows", grow))
