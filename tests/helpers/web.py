"""A web server on loopback that answers well or badly, as the path says, and remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """`files` are given at /NAME; /403 and the like answer so; redirect, loop, hangup and short are other faults.

    endless, stall, drip and silent do not end; huge says that it will not.
    """

    address: str = ""  # host:port
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path with query, Authorization
    sent: int = 0  # bytes, of what never ends
    ended: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    web: Web

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.web.asked.append((self.path, self.headers["Authorization"]))
        name = self.path.split("?")[0].lstrip("/").split("/")[0]
        if name in self.web.files:
            self.answer(200, self.web.files[name])
        elif name == "short":
            self.answer(200, b"a,b\n", length=1_000)
        elif name in {"redirect", "loop"}:
            there = "403" if name == "redirect" else "loop"
            self.answer(302, Location=f"http://{self.web.address}/{there}?signature=signed%2Fsecret")
        elif name in {"endless", "stall", "drip"}:
            self.go_on(name)
        elif name == "huge":
            self.answer(200, b"a,b\n", length=10**15)
        elif name == "silent":
            self.web.ended.wait(60)
        elif name == "hangup":
            self.close_connection = True
        else:
            self.answer(int(name) if name.isdigit() else 404)

    def go_on(self, name: str) -> None:
        """Send a part, then nothing, a byte at a time or more and more, until the client or the test has enough."""
        self.send_response(200)
        self.end_headers()
        part = b"1,2\n" * 16_384
        with suppress(OSError):
            self.wfile.write(b"a,b\n" + part)
            while not self.web.ended.wait({"endless": 0.0, "stall": 60.0, "drip": 0.05}[name]):
                self.wfile.write(part if name == "endless" else b"1")
                self.web.sent += len(part)

    def answer(self, status: int, content: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(length or len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving() -> Iterator[Web]:
    """A server of its own while the block lasts."""
    web = Web()
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"web": web})) as server:
        web.address = f"127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield web
        web.ended.set()
        server.shutdown()
