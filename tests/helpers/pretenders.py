"""What may stand where Prefect's server should: each a real listener on loopback that answers as it is told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Answer = Callable[[str], bytes | None]  # of a path: a whole answer; None: none at all


def page(status: str, body: bytes = b"", kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


def _healthy(otherwise: bytes | None) -> Answer:
    return lambda path: page("200 OK", b"true") if path.endswith("/health") else otherwise


LOGIN = page("200 OK", b"<html><form>Who are you?</form></html>", "text/html")
ANSWERS: dict[str, Answer] = {
    "silent": lambda _: None,
    "healthy and silent": _healthy(None),
    "healthy and broken": _healthy(page("500 Internal Server Error")),
    "busy": lambda _: page("503 Service Unavailable"),
    "login page": lambda _: LOGIN,
    "redirect": lambda path: LOGIN if path == "/login" else page("302 Found\r\nLocation: /login"),
    "empty objects": lambda _: page("200 OK", b"{}"),
    "old": lambda path: page("200 OK", b'"3.1.0"' if path.endswith("/version") else b"[]"),
    "older": lambda path: page("404 Not Found") if path.endswith("/version") else page("200 OK", b"[]"),
    "no HTTP": lambda _: b"220 mail.example ESMTP\r\n",
}
DRIPS = "drips"  # a byte a second, for ever


class Front:
    """Before a server at `port`, if there is one: passes all on until it is told to answer by itself."""

    def __init__(self, listening: socket.socket, port: int | None) -> None:
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        self._listening, self._port = listening, port
        self._answer: str | None = None
        self._open: list[socket.socket] = []
        self._passed = bytearray()  # what clients said to the server
        threading.Thread(target=self._accept, daemon=True).start()

    def pretend(self, answer: str | None) -> None:
        """Answer so from now on (None: pass on), on connections that are open as on new ones."""
        self._answer = answer
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def n_passed(self, text: str) -> int:
        """How often a text went to the server."""
        return self._passed.count(text.encode())

    def _accept(self) -> None:
        with suppress(OSError):  # closed: the test is over
            while True:
                client, _ = self._listening.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            if self._answer is None and self._port is not None:
                with socket.create_connection(("127.0.0.1", self._port)) as server:
                    self._open.append(server)
                    threading.Thread(target=_pump, args=(server, client, bytearray()), daemon=True).start()
                    _pump(client, server, self._passed)
                return
            asked = client.recv(65_536).split(b" ")
            if self._answer == DRIPS:
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while True:
                    client.sendall(b" ")
                    time.sleep(1.0)
            given = ANSWERS[self._answer or "silent"](asked[1].decode() if len(asked) > 1 else "")
            if given is None:
                client.recv(1)  # until the client goes
            else:
                client.sendall(given)


def _pump(source: socket.socket, sink: socket.socket, seen: bytearray) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            seen += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def front(port: int | None = None) -> Iterator[Front]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield Front(listening, port)
