"""The types of flow parameters: what the Prefect UI offers and refuses, and what a flow checks before it starts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ByteSize, Field, JsonValue

from tasks.errors import UnknownNameError
from tasks.models.registry import GROUPS, MODELS
from tasks.specs import AUDIO_FEATURES, BUDGETS, FEATURE_SETS, PROBES, PROTOCOLS, SEVERAL_PROTOCOLS


def _known(kind: str, names: Collection[str]) -> tuple[Any, ...]:
    """What makes a text one of `names`: a choice in the UI, and the error that lists them."""
    known: list[JsonValue] = list(names)

    def check(name: str) -> str:
        if name not in names:
            raise ValueError(str(UnknownNameError(kind, name, names)))
        return name

    return Field(json_schema_extra={"enum": known}), AfterValidator(check)


ProtocolName = Annotated[str, *_known("protocol", PROTOCOLS)]
ProtocolNames = Annotated[str, *_known("protocol", [*PROTOCOLS, *PROBES, *SEVERAL_PROTOCOLS])]
ModelName = Annotated[str, *_known("model", [*GROUPS, *dict.fromkeys(spec.model for spec in MODELS.values())])]
StoredModelName = Annotated[str, *_known("model", dict.fromkeys(m.model for m in MODELS.values() if m.keeps_model))]
BudgetName = Annotated[str, *_known("budget", BUDGETS)]
FeatureSetName = Annotated[str, *_known("feature set", FEATURE_SETS)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Features = Annotated[int, Field(ge=1, le=len(AUDIO_FEATURES))]
Count = Annotated[int, Field(ge=1)]
Bytes = Annotated[ByteSize, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[float, Field(gt=0.0)]
RunnerName = Literal["local", "dask"]
DaskAddress = Annotated[str, Field(pattern=r"^(tcp|tls)://[^/\s]+:\d+$")]
