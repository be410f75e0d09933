"""Each alert is declared once, and set up once, whatever the server has."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
import yaml
from prefect.events.schemas.automations import Automation, AutomationCore

from flows.fan_out import WITH_FAILURES
from tasks.errors import UserError
from tasks.orchestration import alerts, events
from tests.helpers.commands import ROOT, refusal

DECLARED = alerts.declared()
BLOCK = uuid4()


class Server:
    """Prefect's server, as the client shows it."""

    def __init__(self) -> None:
        self.automations: dict[UUID, AutomationCore] = {}

    def read_automations_by_name(self, name: str) -> list[Automation]:
        found = [Automation(id=key, **one.model_dump()) for key, one in self.automations.items() if one.name == name]
        return found[::-1]

    def create_automation(self, automation: AutomationCore) -> None:
        self.automations[uuid4()] = automation

    def update_automation(self, key: UUID, automation: AutomationCore) -> None:
        self.automations[key] = automation

    def delete_automation(self, key: UUID) -> None:
        del self.automations[key]

    def read_block_documents(self, *, include_secrets: bool) -> list[SimpleNamespace]:
        assert not include_secrets
        return [
            SimpleNamespace(
                id=BLOCK, name="team", block_type=SimpleNamespace(slug=slug),
                block_schema=SimpleNamespace(capabilities=[capability]),
            )
            for slug, capability in (("slack-webhook", "notify"), ("secret", "read"))
        ]  # fmt: skip


def actions_of(server: Server) -> set[str]:
    return {action.type for one in server.automations.values() for action in one.actions}


@pytest.mark.parametrize("automation", DECLARED, ids=lambda automation: automation["name"])
def test_an_alert_is_an_automation_that_prefect_accepts(automation) -> None:
    known = AutomationCore.model_fields | {"type": None}
    assert set(automation) <= set(known)
    read = AutomationCore.model_validate(automation)
    assert set(automation["trigger"]) <= set(type(read.trigger).model_fields)  # others are accepted and ignored
    assert read.description
    assert read.name.startswith("music-benchmark: ")


def test_every_event_has_one_alert() -> None:
    expected = [name for automation in DECLARED for name in automation["trigger"]["expect"]]
    for event in (events.CHAMPION_REPLACED, events.METRIC_WORSENED, events.SOURCE_DRIFTED):
        assert expected.count(event) == 1
    assert f"prefect.flow-run.{WITH_FAILURES}" in expected


def test_every_deployment_has_the_tag_that_alerts_look_for() -> None:
    of_state = [one["trigger"]["match_related"] for one in DECLARED if "match_related" in one["trigger"]]
    [tag] = {one["prefect.resource.id"].removeprefix("prefect.tag.") for one in of_state}
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    assert all(tag in deployment["tags"] for deployment in deployments)


def test_setting_up_again_changes_nothing() -> None:
    server = Server()
    assert set(alerts.set_up(None, server).values()) == {"created"}
    assert set(alerts.set_up(None, server).values()) == {"unchanged"}
    assert sorted(one.name for one in server.automations.values()) == sorted(one["name"] for one in DECLARED)
    assert actions_of(server) == {"do-nothing"}


def test_what_was_changed_doubled_or_paused() -> None:
    server = Server()
    alerts.set_up(None, server)
    changed, doubled, paused, *_ = server.automations
    names = [server.automations[key].name for key in (changed, doubled, paused)]
    server.automations[changed] = server.automations[changed].model_copy(update={"description": "another"})
    server.create_automation(server.automations[doubled])
    server.automations[paused] = server.automations[paused].model_copy(update={"enabled": False})
    done = alerts.set_up(None, server)
    assert [done[name] for name in names] == ["updated", "unchanged", "unchanged"]
    assert len(server.automations) == len(DECLARED)
    assert server.automations[changed].description == DECLARED[0]["description"]
    assert not server.automations[paused].enabled


def test_a_block_stays_until_another_or_none_is_named(monkeypatch) -> None:
    server = Server()
    alerts.set_up("slack-webhook/team", server)
    assert set(alerts.set_up(None, server).values()) == {"unchanged"}
    monkeypatch.setattr(alerts, "BODY", "another")
    assert set(alerts.set_up(None, server).values()) == {"updated"}
    sent = {(one.block_document_id, one.body) for it in server.automations.values() for one in it.actions}
    assert sent == {(BLOCK, "another")}
    assert set(alerts.set_up("none", server).values()) == {"updated"}
    assert actions_of(server) == {"do-nothing"}


@pytest.mark.parametrize("name", ["slack-webhook/others", "secret/team", "team"])
def test_a_block_that_cannot_notify_is_refused(name) -> None:
    with pytest.raises(UserError, match=f"--notify {name}: .* which has slack-webhook/team"):
        alerts.notification_block(name, Server())


@pytest.mark.slow
def test_alerts_need_a_server_that_stays(monkeypatch) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert "PREFECT_API_URL is not set" in refusal(flow="alerts")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert "where no Prefect server answers (ConnectError)" in refusal(flow="alerts")
