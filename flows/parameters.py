"""Types of flow parameters: the choices of the Prefect UI, the options of commands, and the checks of values."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import AfterValidator, ByteSize, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from flows.options import POSITIONAL, integers, names, size
from tasks.errors import PluginError, UnknownNameError
from tasks.models.registry import GROUPS, MODELS, SAVED, SETTINGS, base_of
from tasks.models.spec import ModelSpec
from tasks.plugins import load_plugins
from tasks.specs import (
    AUDIO_FEATURES,
    BUDGETS,
    FEATURE_SETS,
    MAX_SOURCE_BYTES,
    METRICS,
    PROTOCOLS,
    Task,
    protocol_names,
)

SOURCE_BYTES = ByteSize(MAX_SOURCE_BYTES)


@dataclass(frozen=True)
class Choices:
    """Offers names as the choices of a parameter, in the Prefect UI and in help."""

    names: Callable[[], Collection[str]]
    or_saved: bool = False  # whether a model with saved settings may be named, too

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Returns the parameter's schema with the names that are registered now, those of plug-ins included."""
        with suppress(PluginError):  # validation says so
            load_plugins()
        listed = {**handler(core), "enum": list(self.names())}
        if not self.or_saved:
            return listed
        saved = {**handler(core), "pattern": f"^{SAVED.pattern}$"}
        return {"anyOf": [{**listed, "title": "Model"}, {**saved, "title": "MODEL@NAME"}]}  # titles of tabs in the UI


def _known(kind: str, names: Callable[[], Collection[str]], *, or_saved: bool = False) -> tuple[Any, ...]:
    """Returns type annotations that restrict a text to names: choices, and an error that lists them.

    Args: names: returns the names that are registered now, with those of plug-ins. or_saved: whether it may also be a
        model with saved settings. Which are saved depends on the warehouse and is checked later.
    """

    def check(name: str) -> str:
        load_plugins()
        if or_saved and "@" in name:
            if base_of(name) not in _tunable():
                raise ValueError(str(UnknownNameError("model with saved settings", base_of(name), _tunable())))
        elif name not in names():
            raise ValueError(str(UnknownNameError(kind, name, names())))
        return name

    return Choices(names, or_saved), AfterValidator(check)


def _models(is_offered: Callable[[ModelSpec], object]) -> list[str]:
    return list(dict.fromkeys(spec.model for spec in MODELS.values() if is_offered(spec)))


def _tunable() -> list[str]:
    return _models(lambda spec: spec.space)


def _load(files: list[str] | None) -> list[str] | None:
    load_plugins(files or ())
    return files


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
# A function has it before the parameters whose names plug-ins may add, because values are checked in that order.
Plugins = Annotated[list[str] | None, AfterValidator(_load), Parameter(metavar="FILE,...", converter=names, n_tokens=1)]
ProtocolName = Annotated[str, *_known("protocol", lambda: PROTOCOLS), Parameter(metavar="NAME")]
ProtocolNames = Annotated[str, *_known("protocol", protocol_names), Parameter(metavar="NAME")]
ModelName = Annotated[str, *_known("model", lambda: [*GROUPS, *_models(lambda _: True)], or_saved=True)]
Models = Annotated[list[ModelName], Parameter(metavar="A,B", converter=names, n_tokens=1)]
StoredModelName = Annotated[
    str,
    *_known("model", lambda: _models(lambda spec: spec.keeps_model), or_saved=True),
    Parameter(metavar="NAME"),
]
TargetName = Annotated[Task, Parameter(metavar="NAME")]
TunableName = Annotated[str, *_known("model", _tunable), Parameter(metavar="NAME")]
SettingsName = Annotated[str, Field(pattern=f"^{SETTINGS}$"), Parameter(metavar="NAME")]
BudgetName = Annotated[str, *_known("budget", lambda: BUDGETS), Parameter(metavar="NAME")]
FeatureSetName = Annotated[str, *_known("feature set", lambda: FEATURE_SETS)]
FeatureSets = Annotated[list[FeatureSetName], Parameter(metavar="A,B", converter=names, n_tokens=1)]
MetricName = Annotated[str, *_known("metric", lambda: METRICS)]
Share = Annotated[float, Field(ge=0.0, le=1.0), Parameter(metavar="SHARE")]
Features = Annotated[int, Field(ge=1, le=len(AUDIO_FEATURES)), Parameter(metavar="N")]
Count = Annotated[int, Field(ge=1), Parameter(metavar="N")]
FoldCount = Annotated[int, Field(ge=2, le=50), Parameter(metavar="K")]
Bytes = Annotated[
    ByteSize,
    Field(ge=1),
    Parameter(metavar="SIZE", converter=size, n_tokens=1, show_default=lambda most: f"{most // 10**9}GB"),
]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
FoldSeed = Annotated[Seed, Parameter(metavar="N")]
Seeds = Annotated[list[Seed], Parameter(metavar="N,M", converter=integers, n_tokens=1)]
Seconds = Annotated[float, Field(gt=0.0), Parameter(metavar="SECONDS")]
Mebibytes = Annotated[float, Field(gt=0.0), Parameter(metavar="MIB")]
RunnerName = Literal["local", "dask"]
DaskAddress = Annotated[str, Field(pattern=r"^(tcp|tls)://[^/\s]+:\d+$"), Parameter(metavar="tcp://HOST:PORT")]
