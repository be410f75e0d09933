"""Downloads a file by any of fsspec's file systems, with limits on time, size and disk space."""

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

SLOW_SECONDS = 30.0  # within which at least SLOW_BYTES must arrive
SLOW_BYTES = 30_000
MOST_SECONDS = 3600.0
SPARED_BYTES = 1_000_000_000  # that stay free on the disk
SPARED_SHARE = 0.05  # of a small disk that stays free instead
POLL_SECONDS = 0.2


def download(url: str, label: str, target: Path, max_bytes: int) -> None:
    """Downloads a file to `target`, which may be incomplete if that fails.

    Args: label: the URL for messages, without secrets. max_bytes: the largest size that is accepted.

    Raises: InputError: the file cannot be downloaded, is larger, or leaves too little disk space. DownloadError: trying
        again may help.
    """
    watch = _Watch(label, target, max_bytes)
    failure: list[UserError] = []
    # In a thread, because libraries may wait without limit; a daemon, so that this process can end without it.
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
        raise failure[0]  # raised here it has no cause or context, whose logged text could show the URL's secrets


class _Watch(fsspec.Callback):  # type: ignore[misc]
    """Progress of a download, as some of fsspec's file systems report it; an error raised here ends the download."""

    def __init__(self, label: str, target: Path, max_bytes: int) -> None:
        super().__init__()
        self.is_over = False
        self._label = label
        self._target = target
        self._max_bytes = max_bytes

    def set_size(self, size: int | None) -> None:
        """Checks the size that the server states."""
        super().set_size(size)
        self.check(size or 0)

    def relative_update(self, inc: int = 1) -> None:
        """Checks the size after `inc` more bytes are written."""
        super().relative_update(inc)
        self.check(self.value)

    def written(self) -> int:
        """Returns how many bytes are written so far."""
        try:
            return max(self.value, self._target.stat().st_size)
        except FileNotFoundError:
            return self.value

    def check(self, size: int) -> None:
        """Raises: InputError: a file of `size` bytes is too large, the disk is too full, or the download is over."""
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
    except Exception as error:  # noqa: BLE001 - fsspec's file systems raise different errors
        failure.append(_refusal(error, label, quoting=not has_secrets(url)))


def _options(url: str) -> dict[str, Any]:
    """Returns the timeouts for aiohttp; its default, five minutes in total, is too short for large files."""
    schemes = [scheme for scheme in ("http", "https") if f"{scheme}://" in url]
    if not schemes:
        return {}
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=SLOW_SECONDS, sock_read=2 * SLOW_SECONDS)
    return {scheme: {"client_kwargs": {"timeout": timeout}} for scheme in schemes}


def _refusal(error: Exception, label: str, *, quoting: bool) -> UserError:
    """Returns the error of a failed download, without the URLs that libraries quote, even after a redirect."""
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
