"""A file from elsewhere, by any of fsspec's file systems: never waited for without end, never the last of a disk."""

from __future__ import annotations

import re
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import fsspec

from tasks.errors import DownloadError, InputError, UserError
from tasks.storage.urls import has_secrets

SLOW_SECONDS = 30.0  # in which SLOW_BYTES must come
SLOW_BYTES = 30_000
MOST_SECONDS = 3600.0
SPARED_BYTES = 1_000_000_000  # that stay free on the disk,
SPARED_SHARE = 0.05  # of a small one this share of it
POLL_SECONDS = 0.2


def download(url: str, label: str, target: Path, max_bytes: int) -> None:
    """Fetch a file to `target`, which may be there in part if that fails.

    Args: label: of the URL in messages, without secrets. max_bytes: that it may hold.
    Raises: InputError: it cannot be had, is larger, or leaves too little room; DownloadError: trying again may help.
    """
    watch = _Watch(label, target, max_bytes)
    failure: list[UserError] = []
    # A thread, because libraries wait as long as they please; a daemon, because this process does not wait for it.
    thread = threading.Thread(target=_fetch, args=(url, label, target, watch, failure), daemon=True)
    thread.start()
    began = since = time.monotonic()
    seen = 0
    while thread.is_alive() and not failure:
        thread.join(POLL_SECONDS)
        now, size = time.monotonic(), watch.written()
        if size - seen >= SLOW_BYTES:
            seen, since = size, now
        try:
            if now - began > MOST_SECONDS:
                raise InputError(
                    f"{label}: was not there after {MOST_SECONDS / 60:.0f} minutes. Fetch it by other means, and give "
                    "the file."
                )
            if now - since > SLOW_SECONDS:
                raise DownloadError(
                    f"{label}: the server sent less than {SLOW_BYTES:,} bytes in {SLOW_SECONDS:.0f} seconds."
                )
            watch.check(size)
        except UserError as error:
            failure.append(error)
    watch.is_over = True
    if failure:
        raise failure[0]  # out here it has no cause or context, whose text a log would print, with the URL


class _Watch(fsspec.Callback):  # type: ignore[misc]
    """What fsspec tells of a download, of file systems that tell: an error here ends it."""

    def __init__(self, label: str, target: Path, max_bytes: int) -> None:
        super().__init__()
        self.is_over = False
        self._label = label
        self._target = target
        self._max_bytes = max_bytes

    def set_size(self, size: int | None) -> None:
        """The size that the server states."""
        super().set_size(size)
        self.check(size or 0)

    def relative_update(self, inc: int = 1) -> None:
        """So many bytes more are written."""
        super().relative_update(inc)
        self.check(self.value)

    def written(self) -> int:
        """How many bytes are there."""
        try:
            return max(self.value, self._target.stat().st_size)
        except FileNotFoundError:
            return self.value

    def check(self, size: int) -> None:
        """Raises: InputError: a file of `size` bytes is too large, or the disk too full, or nobody waits any more."""
        if size > self._max_bytes or self.is_over:
            raise InputError(f"{self._label}: holds more than the {self._max_bytes:,} bytes of --max-source-bytes.")
        disk = shutil.disk_usage(self._target.parent)
        spared = min(SPARED_BYTES, int(disk.total * SPARED_SHARE))
        if disk.free - max(size - self.written(), 0) < spared:
            raise InputError(
                f"{self._label}: a download leaves {spared // 10**6:,} MB free on the disk of {self._target.parent}, "
                f"where {disk.free // 10**6:,} MB are. Make room there."
            )


def _fetch(url: str, label: str, target: Path, watch: _Watch, failure: list[UserError]) -> None:
    try:
        filesystem, path = fsspec.url_to_fs(url, **_options(url))
        filesystem.get_file(path, str(target), callback=watch)
        if target.is_dir():
            target.rmdir()
            failure.append(InputError(f"{label}: is a folder, not a file."))
    except UserError as error:
        failure.append(error)
    except ImportError as error:
        failure.append(UserError(f"{label}: reading it needs another package ({error})."))
    except Exception as error:  # noqa: BLE001 - each of fsspec's file systems raises errors of its own
        failure.append(_refusal(error, label, quoting=not has_secrets(url)))


def _options(url: str) -> dict[str, Any]:
    """What aiohttp is told: its own limit, five minutes for all, is none for large files."""
    schemes = [scheme for scheme in ("http", "https") if f"{scheme}://" in url]
    if not schemes:
        return {}
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=SLOW_SECONDS, sock_read=2 * SLOW_SECONDS)
    return {scheme: {"client_kwargs": {"timeout": timeout}} for scheme in schemes}


def _refusal(error: Exception, label: str, *, quoting: bool) -> UserError:
    """What went wrong, without URLs: libraries quote them as they please, even those they are redirected to."""
    status = getattr(error, "status", None)
    kind = type(error).__name__
    if isinstance(error, FileNotFoundError):
        reason = "nothing is there"
    elif isinstance(status, int) and status:
        reason = f"the server answered {status}"
    else:
        reason = f"{kind}: {re.sub('://[^ ]+', '://...', str(error).partition(chr(10))[0][:300])}" if quoting else kind
    is_final = isinstance(error, FileNotFoundError | ValueError) or status in {400, 401, 403, 404, 410}
    return (InputError if is_final else DownloadError)(f"{label}: cannot be downloaded ({reason}).")
