"""Leases of a remote warehouse, where the kernel's file locks do not reach. A lease is an empty object below `use/`.

A process writes its lease, and only then lists those of other processes. A flow conflicts with upkeep, upkeep with
every lease, and a lock with leases of the same lock, which have a folder of their own. Object stores list new objects
at once, so of two processes that begin together at least one sees the other. It withdraws its lease and tries again
after a random delay; with a fixed delay the two could conflict again and again.

A process renews its lease. A lease that was not renewed for `EXPIRES_AFTER`, by the store's clock, is ignored: its
process was killed, or its machine slept or was disconnected. So is a lease of a dead process of this machine.
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

from tasks.errors import UserError
from tasks.storage.folder_store import is_gone
from tasks.storage.object_store import Store, StoreError

RENEWED = 60.0  # seconds between renewals
EXPIRES_AFTER = timedelta(minutes=15)
POLL_SECONDS = 1.0  # on average
FOLDER = "use"
Holder = Literal["flow", "upkeep", "lock"]
LEASE = re.compile(r"(?P<by>flow|upkeep|lock)-[0-9a-f]{8}\.(?P<host>[^/]+)\.(?P<pid>\d+)")


class HeldError(UserError):
    """Other processes hold the warehouse; the message names one of them."""


def holders(store: Store, folder: str = FOLDER) -> dict[str, re.Match[str]]:
    """Returns the valid leases by name. Ages are relative to the newest lease, so one must have just been written."""
    leases = {name: found for name in store.names(folder) if (found := LEASE.fullmatch(name))}
    written = {name: at for name in leases if (at := store.modified(f"{folder}/{name}"))}
    newest = max(written.values(), default=None)
    return {
        name: leases[name]
        for name, at in written.items()
        if newest and newest - at <= EXPIRES_AFTER and not is_gone(leases[name])
    }


@contextmanager
def held(
    store: Store,
    by: Holder,
    folder: str = FOLDER,
    wait: float = math.inf,
    on_wait: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Holds a lease of the warehouse, or of a lock, during the block: flows share it, upkeep and locks hold it alone.

    Args: folder: of the leases; a lock has its own. wait: seconds to wait for conflicting leases. on_wait: called once
        if there are any.

    Raises: HeldError: a conflicting lease remains after that time.
    """
    lease = f"{folder}/{by}-{uuid.uuid4().hex[:8]}.{socket.gethostname()}.{os.getpid()}"
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(store, lease, ended), daemon=True)
    try:
        _acquire(store, lease, by, time.monotonic() + wait, on_wait)
        renewing.start()
        yield
    finally:
        ended.set()
        if renewing.ident:
            renewing.join()
        with suppress(StoreError):  # the lease expires anyway
            store.remove_one(lease)


def _acquire(store: Store, lease: str, by: str, deadline: float, on_wait: Callable[[], None]) -> None:
    """Returns once the lease is written and no other lease conflicts with it."""
    folder, own = lease.rsplit("/", 1)
    has_waited = False
    while True:
        store.write(lease, b"")
        found = holders(store, folder)
        own_lease = found.pop(own, None)
        conflicting = [one for one in found.values() if (by, one["by"]) != ("flow", "flow")]
        if not conflicting and own_lease:
            break
        if not conflicting:  # a process that has just ended removed this lease as an expired one: write it again
            continue
        store.remove_one(lease)
        if time.monotonic() >= deadline:
            raise HeldError(f"{conflicting[0]['by']} of process {conflicting[0]['pid']} on {conflicting[0]['host']}")
        if not has_waited:
            on_wait()
        has_waited = True
        time.sleep(POLL_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
    if by != "flow":
        # The others are expired, or of processes that have just begun: these see this lease and withdraw theirs.
        for name in set(store.names(folder)) - {own}:
            store.remove_one(f"{folder}/{name}")


def _renew(store: Store, lease: str, ended: threading.Event) -> None:
    while not ended.wait(RENEWED):
        with suppress(StoreError):  # tried again at the next renewal
            store.write(lease, b"")
