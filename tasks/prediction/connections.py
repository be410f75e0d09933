"""Connections of an HTTP server whose clients must get on: idle and half-sent ones are let go, so new ones get in.

uvicorn limits what it answers, not how long it waits: a connection on which nothing, half a request or no answer moves
stays for as long as its client likes, and counts.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

CLIENT_SECONDS = 15.0  # for a client to send its whole request, and again to take its answer
MOST = 200  # connections; a new one above them takes the place of the one that has waited longest for its client
LOOK_SECONDS = 1.0


class PatientProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, for so many connections and with so much patience."""

    most = MOST
    is_let_go = False
    is_answered = False  # once at least: who never asked for anything goes first
    since = 0.0  # when it began to wait for its client

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room for the connection, and keep an eye on it."""
        kept = [one for one in self.connections if isinstance(one, PatientProtocol) and not one.is_let_go]
        waiting = [one for one in kept if one.waits_for_client]
        if len(kept) >= self.most and waiting:
            min(waiting, key=lambda one: (one.is_answered, one.since)).let_go()
        self.since = self.loop.time()
        super().connection_made(transport)
        self.loop.call_later(LOOK_SECONDS, self._look)

    def on_response_complete(self) -> None:
        """It is the client's turn again."""
        self.is_answered, self.since = True, self.loop.time()
        super().on_response_complete()

    @property
    def waits_for_client(self) -> bool:
        """Whether it is the client's turn: to send a request, the rest of one, or to take the answer."""
        cycle = self.cycle
        return cycle is None or cycle.more_body or cycle.response_started or self.flow.write_paused

    def let_go(self) -> None:
        """End the connection, whatever is left to be sent."""
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
