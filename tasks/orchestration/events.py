"""Events that runs emit to Prefect's server: what a person wants to know of a run that ended well.

`alerts.yaml` has an automation for each, and docs/operations.md, "Alerts", a table of them. That a run failed, or is
late, Prefect emits itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect.events import emit_event
from prefect.settings import PREFECT_API_URL

from tasks.errors import one_line
from tasks.prediction import champions
from tasks.reporting import run_verdicts
from tasks.specs import HEADLINES
from tasks.storage.warehouse import Warehouse
from tasks.training.catalogues import Catalogues

PREFIX = "music-benchmark"
CHAMPION_REPLACED = f"{PREFIX}.champion.replaced"
METRIC_WORSENED = f"{PREFIX}.metric.worsened"
SOURCE_DRIFTED = f"{PREFIX}.source.drifted"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, for Prefect's feed of events and for automations.

    Args:
        name: such as music-benchmark.champion.replaced.
        resource: what it happened to, as (kind, identifier): the resource music-benchmark.KIND.IDENTIFIER.
        message: what happened, in one line, which notifications quote.
        payload: the facts, as JSON has them.
        related: what else has to do with it: (kind, identifier) by role. Prefect adds the flow run.
    """

    name: str
    resource: tuple[str, str]
    message: str
    payload: Mapping[str, Any]
    related: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def emit(events: Iterable[Event]) -> None:
    """Hands events to Prefect's client, which sends them in the background. Without a server, nothing happens.

    It never raises: an event that cannot be emitted is logged.
    """
    if not PREFECT_API_URL.value():  # Prefect would start a server
        return
    try:
        for event in events:
            emit_event(
                event.name,
                _resource(event.resource),
                related=[_resource(about) | {"prefect.resource.role": role} for role, about in event.related.items()],
                payload={"message": one_line(event.message), **event.payload},
            )
    except Exception as error:  # noqa: BLE001 - a run must not fail by what is said of it
        logger.warning("An event could not be emitted: %s", one_line(error))


def emit_of_run(run_id: str, warehouse: Warehouse) -> None:
    """Emits what a published run of the benchmark changed. It never raises."""
    for found in (champions_replaced, metrics_worsened):
        try:
            emit(found(run_id, warehouse))
        except Exception as error:  # noqa: BLE001 - likewise
            logger.warning("It is not known whether there is an event of %s: %s", run_id, one_line(error))


def champions_replaced(run_id: str, warehouse: Warehouse) -> list[Event]:
    """Returns an event for each champion of the current catalogue that a run's model took the place of."""
    catalogue = Catalogues.of(warehouse).current
    return [
        Event(
            name=CHAMPION_REPLACED,
            resource=("champion", one.candidate.task),
            message=f"{one.candidate.task} is predicted by {one.candidate.title}, not {one.replaced}: {one.reason}",
            payload={
                "task": one.candidate.task,
                "model": one.candidate.cell.model,
                "feature_set": one.candidate.cell.feature_set,
                "protocol": one.candidate.cell.protocol,
                "budget": one.candidate.cell.budget,
                "metric": one.candidate.metric,
                "value": one.candidate.value,
                "replaced": one.replaced,
                "reason": one.reason,
                "run_id": run_id,
                "catalogue": catalogue,
                "warehouse": warehouse.address,
            },
            related={"run": ("run", run_id), "model": ("model", one.candidate.cell.model)},
        )
        for one in champions.history(warehouse)
        if one.replaced and one.candidate.run_id == run_id and one.candidate.catalogue == catalogue
    ]


def metrics_worsened(run_id: str, warehouse: Warehouse) -> list[Event]:
    """Returns an event if accuracy or RMSE of any model is worse in a run than in the one before it, beyond chance.

    The run before is the newest completed one of the same catalogue, budget and cells. "Beyond chance" is as in
    `flows.report --fail-if-worse`: the 95 % interval of the paired difference does not hold 0.
    """
    headlines = [metric.name for metric in HEADLINES.values()]
    found = run_verdicts.since_the_run_before(run_id, headlines, warehouse)
    if not found or not found.worse:
        return []
    before = found.before["run_id"]
    return [
        Event(
            name=METRIC_WORSENED,
            resource=("run", run_id),
            message=f"{found.gate[-1]}. The first is {found.gate[0].removeprefix('worse: ')}",
            payload={
                "run_id": run_id,
                "before": before,
                "figures": found.worse,
                "catalogue": found.run["catalogue"],
                "budget": found.run["budget"],
                "warehouse": warehouse.address,
            },
            related={"run-before": ("run", before)},
        )
    ]


def source_drifted(alarms: Sequence[str], source: str, warehouse: Warehouse) -> list[Event]:
    """Returns an event that a source is unlike what was read of its catalogue before; none without alarms.

    Args: alarms: one line each on what drifted, the worst first. source: its name.
    """
    if not alarms:
        return []
    more = f", and {len(alarms) - 1} more" if len(alarms) > 1 else ""
    return [
        Event(
            name=SOURCE_DRIFTED,
            resource=("source", source),
            message=f"{source} drifted: {alarms[0]}{more}",
            payload={"alarms": list(alarms), "source": source, "warehouse": warehouse.address},
        )
    ]


def _resource(about: tuple[str, str]) -> dict[str, str]:
    kind, identifier = about
    return {"prefect.resource.id": f"{PREFIX}.{kind}.{identifier}", "prefect.resource.name": f"{kind} {identifier}"}
