"""Stores measurements as JSON files of named records, each with the machine, the versions and the day."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tasks.training.runs import REPORTED_VERSIONS

RESULTS = Path(__file__).parent / "results"
Record = dict[str, Any]
ABOUT = ("date", "machine", "cpu_count", "python", "versions")


def about() -> Record:
    """Returns the machine, the versions and the day of a measurement in this process."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
        "versions": dict(_versions()),
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in (*REPORTED_VERSIONS, "pandas"):
        with suppress(metadata.PackageNotFoundError):
            yield name, metadata.version(name)


def merge(file: Path, found: dict[str, Record]) -> dict[str, Record]:
    """Replaces the records of the same names in a file; the others stay. Returns all records."""
    file.parent.mkdir(exist_ok=True)
    records = read(file) | {name: about() | record for name, record in found.items()}
    file.write_text(json.dumps(records, indent=1) + "\n")
    return records


def read(file: Path) -> dict[str, Record]:
    """Returns the records of a file by name; none if there is no file."""
    return json.loads(file.read_text()) if file.exists() else {}


def origins(records: dict[str, Record]) -> list[str]:
    """Returns one sentence per machine, set of versions and day, with the names of what was measured then."""
    names: dict[str, list[str]] = {}
    for name, record in records.items():
        where = {key: record[key] for key in ABOUT}
        names.setdefault(json.dumps(where), []).append(name)
    return [f"{', '.join(measured)}: {_sentence(json.loads(where))}" for where, measured in names.items()]


def _sentence(where: Record) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    machine = f"{where['cpu_count']} cores ({where['machine']})"
    return f"measured on {where['date']}, {machine}, Python {where['python']}, {versions}."
