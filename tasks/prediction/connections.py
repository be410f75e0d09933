"""Limits for the connections of the HTTP server: idle and stalled ones are closed, so that new clients get in.

uvicorn has no time limit for reading a request or for sending an answer: a client that stalls would keep its connection
forever.
"""

from __future__ import annotations

import asyncio
import resource
import socket

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

CLIENT_SECONDS = 15.0  # for a client to send its whole request, and again to take its answer
MOST = 200  # connections; one more closes the connection that has waited longest for its client
LOOK_SECONDS = 1.0
QUEUE = 2_048  # clients that wait to be accepted
OPEN_FILES = 4_096  # open at once, including connections, if the system allows it


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol with at most `MOST` connections, which wait `CLIENT_SECONDS` for their clients."""

    most = MOST
    is_let_go = False
    is_answered = False  # at least once; connections without an answered request are closed first
    since = 0.0  # time of the event loop since which it has waited for its client

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Closes another connection if there are too many, and begins to watch this one."""
        kept = [one for one in self.connections if isinstance(one, PatientProtocol) and not one.is_let_go]
        waiting = [one for one in kept if one.waits_for_client]
        if len(kept) >= self.most and waiting:
            min(waiting, key=lambda one: (one.is_answered, one.since)).let_go()
        self.since = self.loop.time()
        super().connection_made(transport)
        self.loop.call_later(LOOK_SECONDS, self._look)

    def on_response_complete(self) -> None:
        """Notes that it is the client's turn again."""
        self.is_answered, self.since = True, self.loop.time()
        super().on_response_complete()

    @property
    def waits_for_client(self) -> bool:
        """Whether it is the client's turn: to send (the rest of) a request, or to receive the answer."""
        cycle = self.cycle
        return cycle is None or cycle.more_body or cycle.response_started or self.flow.write_paused

    def let_go(self) -> None:
        """Closes the connection at once, without sending what is left."""
        self.is_let_go = True
        self.transport.abort()

    def _look(self) -> None:
        if self not in self.connections:
            return
        if not self.waits_for_client:
            self.since = self.loop.time()
        elif self.loop.time() - self.since > CLIENT_SECONDS:
            self.let_go()
            return
        self.loop.call_later(LOOK_SECONDS, self._look)


class PatientServer(uvicorn.Server):
    """Lets many clients wait in the kernel's queue, although asyncio accepts only a few of them at once.

    Both are asyncio's `backlog`. Connections are accepted before older ones are closed for them, so with too many at
    once no file could be opened.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the server, then lengthens the queue of its sockets."""
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
