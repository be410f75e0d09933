"""URLs given by the user, and the parts of them that may be shown."""

from __future__ import annotations

from urllib.parse import urlsplit

from tasks.errors import InputError, one_line


def has_secrets(url: str) -> bool:
    """Whether a text is a URL with parts that `public_name` removes."""
    return "://" in url and public_name(url) != url


def public_name(url: str) -> str:
    """Returns a URL without user, password, query and fragment, which may hold secrets."""
    cleaned = []
    for link in url.split("::"):  # fsspec chains file systems
        try:
            parts = urlsplit(link)
            port = f":{parts.port}" if parts.port else ""
        except ValueError:  # its text may quote a password
            raise InputError("A URL that was given is not a valid URL: its host or port cannot be read.") from None
        cleaned.append(f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}" if parts.scheme else parts.path)
    return one_line("::".join(cleaned))
