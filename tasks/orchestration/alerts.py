"""The automations of `alerts.yaml`, set up on Prefect's server."""

from __future__ import annotations

from importlib import resources
from typing import Any, Literal
from uuid import UUID

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import Automation, AutomationCore

from tasks.errors import UserError

FILE = "alerts.yaml"
SUBJECT = "{{ automation.name }}"
# An event of the project says in its payload what happened, one of Prefect's in the state of the flow run.
BODY = (
    "{% if flow_run %}{{ flow_run.name }}: {% endif %}"
    "{{ event.payload.message or flow_run.state.message or automation.description }}"
    "{% if flow_run %}\n{{ flow_run|ui_url or '' }}{% endif %}"
)
NOBODY = "none"  # in place of a block: alerts are entries in the feed of events alone
Change = Literal["created", "updated", "unchanged"]


def declared() -> list[dict[str, Any]]:
    """Returns the automations of `alerts.yaml`, as Prefect's API takes them."""
    text = resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    return list(yaml.safe_load(text))


def notification_block(name: str, client: SyncPrefectClient) -> UUID:
    """Returns the id of a notification block. Args: name: TYPE/NAME, as `prefect block ls` lists it.

    Raises: UserError: there is no such block, or it is none of notifications.
    """
    blocks = {
        f"{block.block_type.slug}/{block.name}": block.id
        for block in client.read_block_documents(include_secrets=False)
        if block.block_type and block.block_schema and "notify" in block.block_schema.capabilities
    }
    if name not in blocks:
        there = ", ".join(sorted(blocks)) or "none"
        raise UserError(
            f"--notify {name}: is no notification block of Prefect's server, which has {there}. Make one in the UI, "
            "Blocks, and name it as TYPE/NAME."
        )
    return blocks[name]


def set_up(notify: str | None, client: SyncPrefectClient) -> dict[str, Change]:
    """Creates or updates each automation, so that each is there once, as `alerts.yaml` declares it.

    One that was paused in the UI stays paused.

    Args: notify: the notification block that sends the alerts, or NOBODY. None: the one that each has, if any.

    Returns: what was done, by the automation's name.

    Raises: UserError: there is no such block.
    """
    block = None if notify in {None, NOBODY} else notification_block(str(notify), client)
    done: dict[str, Change] = {}
    for automation in declared():
        name = automation["name"]
        found = client.read_automations_by_name(name)
        for double in found[1:]:
            client.delete_automation(double.id)
        before = found[0] if found else None
        wanted = _wanted(automation, block or (_block_of(before) if before and notify is None else None), before)
        if before is None:
            client.create_automation(wanted)
            done[name] = "created"
        elif _contents(before) != _contents(wanted):
            client.update_automation(before.id, wanted)
            done[name] = "updated"
        else:
            done[name] = "unchanged"
    return done


def _block_of(automation: Automation) -> UUID | None:
    found = [action.block_document_id for action in automation.actions if isinstance(action, SendNotification)]
    return found[0] if found else None


def _wanted(automation: dict[str, Any], block: UUID | None, before: Automation | None) -> AutomationCore:
    more: dict[str, Any] = {"enabled": before.enabled} if before else {}
    if block:
        action = {"type": "send-notification", "block_document_id": str(block), "subject": SUBJECT, "body": BODY}
        more["actions"] = [action]
    return AutomationCore.model_validate(automation | more)


def _contents(automation: AutomationCore) -> dict[str, Any]:
    return AutomationCore.model_validate(automation.model_dump(mode="json")).model_dump(exclude={"owner_resource"})
