"""Who uses a warehouse at a URL, where the kernel's locks do not reach: each process says so by a note below `use/`.

A process puts its note, and only then looks for those of others: flows for upkeep's, upkeep for anybody's, and who
needs a lock everywhere for those of the same lock, in a folder of its own. Stores show at once what was put, so of two
that begin together at least one sees the other, withdraws and tries again: after a while of its own, or two would meet
again and again. Notes are renewed; one that was not for `GONE`, by the store's own clock, does not count: its process
was killed, or its machine slept or was cut off for so long. Nor does one of a process of this machine that is gone.
"""

from __future__ import annotations

import math
import os
import random
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Literal

import psutil

from tasks.errors import UserError
from tasks.storage.object_store import Store, StoreError

RENEWED = 60.0  # seconds
GONE = timedelta(minutes=15)
POLL_SECONDS = 1.0  # on average
FOLDER = "use"
NOTE = re.compile(r"(?P<by>flow|upkeep|lock)-[0-9a-f]{8}\.(?P<host>[^/]+)\.(?P<pid>\d+)")


class HeldError(UserError):
    """Others hold the warehouse; the text says who."""


def holders(store: Store, folder: str = FOLDER) -> dict[str, re.Match[str]]:
    """The notes that count, by name: asked for right after a note was put, as ages are those beside the newest."""
    notes = {name: found for name in store.names(folder) if (found := NOTE.fullmatch(name))}
    put = {name: at for name in notes if (at := store.modified(f"{folder}/{name}"))}
    newest = max(put.values(), default=None)
    return {
        name: notes[name]
        for name, at in put.items()
        if newest and newest - at <= GONE and not _is_gone(notes[name]["host"], int(notes[name]["pid"]))
    }


@contextmanager
def held(
    store: Store,
    by: Literal["flow", "upkeep", "lock"],
    folder: str = FOLDER,
    wait: float = math.inf,
    on_wait: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Hold the warehouse, or what else `folder` stands for: a flow beside other flows, anybody else alone.

    Args: wait: seconds for those in the way to end; on_wait is called once if there are any.
    Raises: HeldError: they have not ended by then.
    """
    note = f"{folder}/{by}-{uuid.uuid4().hex[:8]}.{socket.gethostname()}.{os.getpid()}"
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(store, note, ended), daemon=True)
    try:
        _put(store, note, by, time.monotonic() + wait, on_wait)
        renewing.start()
        yield
    finally:
        ended.set()
        if renewing.ident:
            renewing.join()
        with suppress(StoreError):  # then it does not count for long
            store.remove_one(note)


def _put(store: Store, note: str, by: str, deadline: float, on_wait: Callable[[], None]) -> None:
    """Return once the note is there and nobody is in the way."""
    folder, own = note.rsplit("/", 1)
    is_told = False
    while True:
        store.write(note, b"")
        found = holders(store, folder)
        own_counts = found.pop(own, None)
        in_the_way = [one for one in found.values() if (by, one["by"]) != ("flow", "flow")]
        if not in_the_way and own_counts:
            break
        if not in_the_way:  # who ended just now took this note for one of the killed: it must be put again
            continue
        store.remove_one(note)
        if time.monotonic() >= deadline:
            raise HeldError(f"{in_the_way[0]['by']} of process {in_the_way[0]['pid']} on {in_the_way[0]['host']}")
        if not is_told:
            on_wait()
        is_told = True
        time.sleep(POLL_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
    if by != "flow":
        # Those of the killed. Whoever came just now sees this note, and withdraws its own anyway.
        for name in set(store.names(folder)) - {own}:
            store.remove_one(f"{folder}/{name}")


def _renew(store: Store, note: str, ended: threading.Event) -> None:
    while not ended.wait(RENEWED):
        with suppress(StoreError):  # the next time, perhaps
            store.write(note, b"")


def _is_gone(host: str, pid: int) -> bool:
    return host == socket.gethostname() and not psutil.pid_exists(pid)
