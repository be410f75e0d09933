"""Answer prediction requests by HTTP: POST /predict, GET /healthz and /docs. By default on this machine only."""

from __future__ import annotations

import ipaddress
import logging
import os
import resource
import socket

import uvicorn

from flows import cli
from flows.options import Parser, add_warehouse
from tasks.errors import UnknownNameError, UserError
from tasks.models.registry import MODELS
from tasks.prediction.connections import MOST, PatientProtocol
from tasks.prediction.http_api import make_app
from tasks.prediction.service import Service
from tasks.storage.warehouse import Warehouse

GRACE_SECONDS = 10  # for requests in progress when the service ends
QUEUE = 2_048  # clients that wait to be accepted
OPEN_FILES = 4_096  # open at once, including connections, if the system allows it


def parser() -> Parser:
    """Returns the parser of the command's options."""
    command = Parser(prog="python -m flows.api", description=__doc__)
    add = command.add_argument
    add_warehouse(command)
    add("--host", default="127.0.0.1", help="the address to listen on; by default 127.0.0.1")
    add("--port", type=int, default=8000, help="the port, 0 for any; by default 8000")
    add("--model", metavar="NAME", help="predict with this one instead of the champions")
    return command


def listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket. Raises: UserError: the address cannot be used."""
    if not 0 <= port <= 65_535:
        raise UserError(f"--port {port}: must be from 0 to 65535.")
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listening = socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--host {host} --port {port}: cannot listen there ({reason}). Choose another.") from error
    # Connections inherit it. asyncio sets it only if the protocol is named; without it answers wait 40 ms for ACKs.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


class _Server(uvicorn.Server):
    """Lets many clients wait in the kernel's queue, although asyncio accepts only a few of them at once.

    Both are asyncio's `backlog`. Connections are accepted before older ones are closed for them, so with too many at
    once no file could be opened.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or []:
            listening.listen(QUEUE)


def room_for_connections() -> int:
    """Raises the limit on open files as far as allowed. Returns how many connections fit below it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < OPEN_FILES:
        soft = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(MOST, soft // 8)


def main() -> int:
    """Runs `python -m flows.api` until a signal ends it."""
    options = parser().parse_args()
    known = {spec.model for spec in MODELS.values() if spec.keeps_model}
    if options.model is not None and options.model not in known:
        raise UnknownNameError("model", options.model, known)
    warehouse = Warehouse.to_read(options.warehouse)
    with (
        listen(options.host, options.port) as listening,
        Service(warehouse, options.model, os.cpu_count() or 1, cli.tell) as service,
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
        _Server(config).run(sockets=[listening])
    return 0


if __name__ == "__main__":
    cli.run_command(main, kept=f"Requests in progress had {GRACE_SECONDS} s to be answered.")
