"""Answer HTTP requests with predictions: POST /predict, GET /healthz, and /docs; on this machine only by default."""

from __future__ import annotations

import ipaddress
import logging
import os
import resource
import socket

import uvicorn

from flows import cli
from tasks.errors import UnknownNameError, UserError
from tasks.models.registry import MODELS
from tasks.prediction.connections import MOST, PatientProtocol
from tasks.prediction.http_api import make_app
from tasks.prediction.service import Service
from tasks.storage.warehouse import Warehouse

GRACE_SECONDS = 10  # for requests in progress when it is ended
FILES = 4_096  # open at once, connections included, where the system lets this process have so many


def parser() -> cli.Parser:
    """The command's options."""
    command = cli.Parser(prog="python -m flows.api", description=__doc__)
    add = command.add_argument
    cli.add_warehouse(command)
    add("--host", default="127.0.0.1", help="the address to listen on; by default 127.0.0.1")
    add("--port", type=int, default=8000, help="the port, 0 for any; by default 8000")
    add("--model", metavar="NAME", help="predict with this one instead of the champions")
    return command


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises: UserError: not possible there."""
    if not 0 <= port <= 65_535:
        raise UserError(f"--port {port}: must be from 0 to 65535.")
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listening = socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--host {host} --port {port}: cannot listen there ({reason}). Choose another.") from error
    # Inherited by connections: asyncio sets it only where the protocol is named, and answers would wait 40 ms for ACKs.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def room_for_connections() -> int:
    """How many connections leave enough files for everything else, once this process may open as many as it can."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES:
        soft = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(MOST, soft // 4)


def main() -> int:
    """The command `python -m flows.api`: serves until a signal ends it."""
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
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # says at length when there are no more files
        config = uvicorn.Config(
            make_app(service),
            http=PatientProtocol,
            ws="none",
            log_config=None,
            log_level="error",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        uvicorn.Server(config).run(sockets=[listening])
    return 0


if __name__ == "__main__":
    cli.run_command(main, kept=f"Requests in progress had {GRACE_SECONDS} s to be answered.")
