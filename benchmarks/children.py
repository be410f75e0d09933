"""Measurements in processes of their own, whose memory is theirs alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def child(module: str, *arguments: str, **environment: str | None) -> dict[str, Any]:
    """Run `python -m MODULE ARGUMENTS`. Returns: the JSON object that is the last line it prints.

    Args: environment: variables that it sees beside this process's; None: that it does not see.
    Raises: SystemExit: it fails; says with what.
    """
    seen = {name: value for name, value in (os.environ | environment).items() if value is not None}
    command = [sys.executable, "-m", module, *arguments]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, env=seen)
    if ended.returncode:
        said = ended.stderr.strip().splitlines()[-1:]
        raise SystemExit(f"{module} {' '.join(arguments)}: ended with {ended.returncode}: {''.join(said)}")
    return json.loads(ended.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def peak_mib() -> float:
    """The most memory that this process has used so far.

    Not getrusage's: that is handed on from the process that started this one.
    """
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024
