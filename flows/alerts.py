"""Set up alerts on Prefect's server: failed, late and incomplete runs, replaced champions, worse metrics, drift."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from flows import cli
from flows.options import Command, Outcome
from tasks.errors import UserError
from tasks.storage.urls import public_name


def alerts(notify: Annotated[str | None, Parameter(metavar="BLOCK")] = None) -> Outcome:
    """Creates or updates an automation for each alert on the server that $PREFECT_API_URL names.

    Args:
        notify: send alerts by this notification block of Prefect's, as TYPE/NAME (slack-webhook/team), which you have
            made in the UI; none for no block. By default alerts keep the block that they have. Without one, an alert is
            an entry in the UI's feed of events.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    from tasks.orchestration.alerts import set_up

    if not (url := PREFECT_API_URL.value()):
        raise UserError("PREFECT_API_URL is not set: alerts are of a server that stays. Start one (`make server`).")
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}), get_client(sync_client=True) as client:
            done = set_up(notify, client)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UserError(
            f"PREFECT_API_URL is {public_name(url)}, where no Prefect server answers ({type(error).__name__}). "
            "Start one (`make server`)."
        ) from error
    return Outcome(
        facts={"alerts": done}, show=lambda: print("\n".join(f"{what}: {name}" for name, what in done.items()))
    )


def run(options: dict[str, Any]) -> Outcome:
    """Sets the alerts up for the command."""
    return alerts(**options)


COMMAND = Command(
    name="alerts",
    function=alerts,
    run=run,
    kept="Alerts that were set up stay: run it again.",
    examples=("", "--notify slack-webhook/team", "--notify none"),
)

if __name__ == "__main__":
    cli.run_app(COMMAND.app())
