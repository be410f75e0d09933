"""A web server on loopback that answers well or badly, as the path says, and remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """`files` are given at /NAME; /403 and the like answer so; redirect, loop, hangup and short are other faults."""

    address: str = ""  # host:port
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path with query, Authorization


@contextmanager
def serving() -> Iterator[Web]:
    """A server of its own while the block lasts."""
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            web.asked.append((self.path, self.headers["Authorization"]))
            name = self.path.split("?")[0].lstrip("/").split("/")[0]
            if name in web.files:
                self.answer(200, web.files[name])
            elif name == "short":
                self.answer(200, b"a,b\n", length=1_000)
            elif name in {"redirect", "loop"}:
                there = "403" if name == "redirect" else "loop"
                self.answer(302, Location=f"http://{web.address}/{there}?signature=signed%2Fsecret")
            elif name == "hangup":
                self.close_connection = True
            else:
                self.answer(int(name) if name.isdigit() else 404)

        def answer(self, status: int, content: bytes = b"", length: int | None = None, **headers: str) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(length or len(content)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        web.address = f"127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield web
        server.shutdown()
