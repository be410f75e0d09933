"""Runs a fan-out of trivial cells (benchmarks/orchestration.py) in a separate process.

    python -m benchmarks.fan_outs 1000 FOLDER

It uses the Prefect server that $PREFECT_API_URL names, else Prefect's temporary server.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import httpx

from benchmarks.children import child
from benchmarks.orchestration import Fanned, measure
from tasks.storage.warehouse import Warehouse

START_SECONDS = 120.0


def fan_out(cells: int, folder: Path, url: str | None = None) -> Fanned:
    """Runs a fan-out in a new process. Args: url: API of a standing server; by default Prefect's temporary one."""
    home = str(folder / "prefect")
    found = child("benchmarks.fan_outs", str(cells), str(folder), PREFECT_HOME=home, PREFECT_API_URL=url)
    return Fanned(**found)


@contextmanager
def standing_server(folder: Path) -> Iterator[str]:
    """Starts a Prefect server on loopback for the duration of the block and yields the address of its API."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    folder.mkdir(parents=True)
    seen = os.environ | {"PREFECT_HOME": str(folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    seen.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, env=seen, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            _wait_until_it_answers(url, process)
            yield url
        finally:
            process.terminate()


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    """Waits until the server answers. Raises: SystemExit: it ended, or START_SECONDS passed."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", timeout=5.0).is_success:
                return
        time.sleep(0.2)
    raise SystemExit("Prefect's server did not start.")


def main() -> None:
    """Prints the figures of one fan-out as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cells", type=int, help="number of cells, even")
    parser.add_argument("folder", type=Path, help="folder for the warehouse")
    options = parser.parse_args()
    from flows.server import available

    with available("fan-out"):
        home = Warehouse.at(options.folder / "warehouse")
    print(json.dumps(asdict(measure(options.cells, home))))


if __name__ == "__main__":
    main()
