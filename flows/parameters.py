"""Types of flow parameters: the choices of the Prefect UI, the options of commands, and the checks of values."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import AfterValidator, ByteSize, Field, JsonValue

from flows.options import POSITIONAL, integers, names, size
from tasks.errors import UnknownNameError
from tasks.models.registry import GROUPS, MODELS
from tasks.specs import (
    AUDIO_FEATURES,
    BUDGETS,
    FEATURE_SETS,
    MAX_SOURCE_BYTES,
    METRICS,
    PROBES,
    PROTOCOLS,
    SEVERAL_PROTOCOLS,
    Task,
)

SOURCE_BYTES = ByteSize(MAX_SOURCE_BYTES)


def _known(kind: str, names: Collection[str]) -> tuple[Any, ...]:
    """Returns type annotations that restrict a text to `names`: choices in the UI, and an error that lists them."""
    known: list[JsonValue] = list(names)

    def check(name: str) -> str:
        if name not in names:
            raise ValueError(str(UnknownNameError(kind, name, names)))
        return name

    return Field(json_schema_extra={"enum": known}), AfterValidator(check)


Source = Annotated[str, Parameter(metavar="PATH_OR_URL|sample[:ROWS]|snapshot:ID")]
TracksFile = Annotated[str, POSITIONAL]
Columns = Annotated[str, Parameter(metavar="PUBLIC_FILE|OURS=THEIRS,...")]
Units = Annotated[str, Parameter(metavar="OURS=UNIT,...")]
WarehouseName = Annotated[str, Parameter(metavar="DIR_OR_URL")]
Sql = Annotated[str, POSITIONAL]
TrackId = Annotated[int, Parameter(metavar="ID")]
File = Annotated[str, Parameter(metavar="FILE")]
RunId = Annotated[str, Parameter(metavar="RUN_ID")]
Separators = Annotated[list[str], Parameter(metavar="TEXT", consume_multiple=1)]
ProtocolName = Annotated[str, *_known("protocol", PROTOCOLS), Parameter(metavar="NAME")]
ProtocolNames = Annotated[
    str, *_known("protocol", [*PROTOCOLS, *PROBES, *SEVERAL_PROTOCOLS]), Parameter(metavar="NAME")
]
ModelName = Annotated[str, *_known("model", [*GROUPS, *dict.fromkeys(spec.model for spec in MODELS.values())])]
Models = Annotated[list[ModelName], Parameter(metavar="A,B", converter=names, n_tokens=1)]
StoredModelName = Annotated[
    str,
    *_known("model", dict.fromkeys(m.model for m in MODELS.values() if m.keeps_model)),
    Parameter(metavar="NAME"),
]
TargetName = Annotated[Task, Parameter(metavar="NAME")]
TunableName = Annotated[
    str, *_known("model", dict.fromkeys(m.model for m in MODELS.values() if m.space)), Parameter(metavar="NAME")
]
BudgetName = Annotated[str, *_known("budget", BUDGETS), Parameter(metavar="NAME")]
FeatureSetName = Annotated[str, *_known("feature set", FEATURE_SETS)]
FeatureSets = Annotated[list[FeatureSetName], Parameter(metavar="A,B", converter=names, n_tokens=1)]
MetricName = Annotated[str, *_known("metric", METRICS)]
Share = Annotated[float, Field(ge=0.0, le=1.0), Parameter(metavar="SHARE")]
Features = Annotated[int, Field(ge=1, le=len(AUDIO_FEATURES)), Parameter(metavar="N")]
Count = Annotated[int, Field(ge=1), Parameter(metavar="N")]
Bytes = Annotated[
    ByteSize,
    Field(ge=1),
    Parameter(metavar="SIZE", converter=size, n_tokens=1, show_default=lambda most: f"{most // 10**9}GB"),
]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seeds = Annotated[list[Seed], Parameter(metavar="N,M", converter=integers, n_tokens=1)]
Seconds = Annotated[float, Field(gt=0.0), Parameter(metavar="SECONDS")]
Mebibytes = Annotated[float, Field(gt=0.0), Parameter(metavar="MIB")]
RunnerName = Literal["local", "dask"]
DaskAddress = Annotated[str, Field(pattern=r"^(tcp|tls)://[^/\s]+:\d+$"), Parameter(metavar="tcp://HOST:PORT")]
