"""Answer prediction requests by HTTP: POST /predict, GET /healthz and /docs. By default on this machine only."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import Field

from flows import cli
from flows.options import Command, Outcome
from flows.parameters import StoredModelName, WarehouseName
from tasks.errors import UserError

GRACE_SECONDS = 10  # for requests in progress when the service ends


Port = Annotated[int, Field(ge=0, le=65_535), Parameter(metavar="N")]


def listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket. Raises: UserError: the address cannot be used."""
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listening = socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--host {host} --port {port}: cannot listen there ({reason}). Choose another.") from error
    # Connections inherit it. asyncio sets it only if the protocol is named; without it answers wait 40 ms for ACKs.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def serve(
    warehouse: WarehouseName | None = None,
    host: str = "127.0.0.1",
    port: Port = 8000,
    model: StoredModelName | None = None,
) -> None:
    """Answers requests until a signal ends the process.

    Args:
        warehouse: where the models are, a folder or a URL. By default $MUSIC_WAREHOUSE, else ./warehouse.
        host: the address to listen on.
        port: the port, 0 for any.
        model: predict with this one instead of the champions.
    """
    import uvicorn

    from tasks.prediction.connections import PatientProtocol, PatientServer, room_for_connections
    from tasks.prediction.http_api import make_app
    from tasks.prediction.service import Service
    from tasks.storage.warehouse import Warehouse

    opened = Warehouse.to_read(warehouse)
    with (
        listen(host, port) as listening,
        Service(opened, model, os.cpu_count() or 1, cli.tell) as service,
    ):
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        if not ipaddress.ip_address(host).is_loopback:
            cli.tell(f"Note: {host} is open to others, and there is no authentication.")
        cli.tell(f"Listening on http://{shown}:{port} (try /docs). Ctrl-C ends it.")
        PatientProtocol.most = room_for_connections()
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it logs long messages if no more files can be opened
        config = uvicorn.Config(
            make_app(service),
            http=PatientProtocol,
            ws="none",
            log_config=None,
            log_level="error",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=GRACE_SECONDS,
            backlog=PatientProtocol.most // 2,
        )
        PatientServer(config).run(sockets=[listening])


def run(options: dict[str, Any]) -> Outcome:
    """Serves for the command."""
    serve(**options)
    return Outcome()


COMMAND = Command(
    name="serve",
    function=serve,
    run=run,
    kept=f"Requests in progress had {GRACE_SECONDS} s to be answered.",
    examples=("", "--port 8080 --model xgboost_tuned"),
    has_facts=False,
)

if __name__ == "__main__":
    cli.run_app(COMMAND.app())
