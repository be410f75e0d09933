"""One small family of errors a user can mend: each says what was required, what was found, and what to do."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """Something the user asked for cannot be done as asked; commands print it as one line and exit 1."""


class InputError(UserError):
    """The source file, or a value in it, is not what the project reads."""


class ProtocolError(InputError):
    """A protocol that this data does not allow: a split would be left without rows. Others may be possible."""


class DownloadError(InputError):
    """A source that is elsewhere could not be fetched; trying again may help."""


class CheckError(UserError):
    """Feature tables break a rule that their protocol states: nothing may be trained on them."""


class ModelFileError(UserError):
    """A stored model that may not be loaded: missing, changed, or not of this warehouse."""


class UnknownNameError(UserError):
    """A name that no registry holds; the message lists the known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"Unknown {kind} '{name}'. Known: {', '.join(sorted(known))}.")
