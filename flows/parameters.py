"""Types of flow parameters: the choices of the Prefect UI, the options of commands, and the checks of values."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ByteSize, Field, JsonValue

from flows.options import Option, integers, names, size
from tasks.errors import UnknownNameError
from tasks.models.registry import GROUPS, MODELS
from tasks.specs import AUDIO_FEATURES, BUDGETS, FEATURE_SETS, PROBES, PROTOCOLS, SEVERAL_PROTOCOLS


def _known(kind: str, names: Collection[str]) -> tuple[Any, ...]:
    """Returns type annotations that restrict a text to `names`: choices in the UI, and an error that lists them."""
    known: list[JsonValue] = list(names)

    def check(name: str) -> str:
        if name not in names:
            raise ValueError(str(UnknownNameError(kind, name, names)))
        return name

    return Field(json_schema_extra={"enum": known}), AfterValidator(check)


Source = Annotated[str, Option("PATH_OR_URL|sample[:ROWS]|snapshot:ID")]
TracksFile = Annotated[str, Option("TRACKS", is_positional=True)]
Columns = Annotated[str, Option("PUBLIC_FILE|OURS=THEIRS,...")]
Units = Annotated[str, Option("OURS=UNIT,...")]
WarehouseName = Annotated[str, Option("DIR_OR_URL")]
TrackId = Annotated[int, Option("ID", int)]
File = Annotated[str, Option("FILE")]
Separators = Annotated[list[str], Option("TEXT", takes_several=True)]
ProtocolName = Annotated[str, *_known("protocol", PROTOCOLS), Option("PROTOCOL")]
ProtocolNames = Annotated[str, *_known("protocol", [*PROTOCOLS, *PROBES, *SEVERAL_PROTOCOLS]), Option("PROTOCOL")]
ModelName = Annotated[str, *_known("model", [*GROUPS, *dict.fromkeys(spec.model for spec in MODELS.values())])]
Models = Annotated[list[ModelName], Option("A,B", names)]
StoredModelName = Annotated[
    str, *_known("model", dict.fromkeys(m.model for m in MODELS.values() if m.keeps_model)), Option("NAME")
]
BudgetName = Annotated[str, *_known("budget", BUDGETS), Option(choices=tuple(BUDGETS))]
FeatureSetName = Annotated[str, *_known("feature set", FEATURE_SETS)]
FeatureSets = Annotated[list[FeatureSetName], Option("A,B", names)]
Share = Annotated[float, Field(ge=0.0, le=1.0), Option("SHARE", float)]
Features = Annotated[int, Field(ge=1, le=len(AUDIO_FEATURES)), Option("N", int)]
Count = Annotated[int, Field(ge=1), Option("N", int)]
Bytes = Annotated[ByteSize, Field(ge=1), Option("SIZE", size, show=lambda most: f"{most // 10**9}GB")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seeds = Annotated[list[Seed], Option("N,M", integers)]
Seconds = Annotated[float, Field(gt=0.0), Option("SECONDS", float)]
Mebibytes = Annotated[float, Field(gt=0.0), Option("MIB", float)]
RunnerName = Literal["local", "dask"]
DaskAddress = Annotated[str, Field(pattern=r"^(tcp|tls)://[^/\s]+:\d+$"), Option("tcp://HOST:PORT")]
