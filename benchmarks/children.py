"""Runs measurements in separate processes, so that each has its own peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def child(module: str, *arguments: str, python: str = sys.executable, **environment: str | None) -> dict[str, Any]:
    """Runs `python -m MODULE ARGUMENTS` and returns the JSON object in its last line of output.

    Args: python: the Python that runs it. environment: variables added to those of this process; None removes one.

    Raises: SystemExit: the process failed; the message has its last line of errors.
    """
    seen = {name: value for name, value in (os.environ | environment).items() if value is not None}
    command = [python, "-m", module, *arguments]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, env=seen)
    if ended.returncode:
        said = ended.stderr.strip().splitlines()[-1:]
        raise SystemExit(f"{module} {' '.join(arguments)}: ended with {ended.returncode}: {''.join(said)}")
    return json.loads(ended.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def peak_mib() -> float:
    """Returns the peak memory of this process so far, in MiB.

    getrusage is not used, because it also reports the peak of the parent process.
    """
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024
