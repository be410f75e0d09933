"""One small family of errors a user can mend: each says what was required, what was found, and what to do."""

from __future__ import annotations

from collections.abc import Iterable


def one_line(text: object) -> str:
    """Text of anyone's as one line that a terminal, a log or the UI can show: no line breaks, no control characters."""
    line = " ".join(str(text).split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def is_text(text: str) -> bool:
    """Whether a text of the command line or the environment is one that can be written as UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)  # surrogates stand for bytes that are none


def is_about_room(error: BaseException) -> bool:
    """Whether a library's error is that of a disk that is full, a quota, or a limit on the size of files."""
    return any(text in str(error) for text in ("No space left on device", "Disk quota exceeded", "File too large"))


class UserError(Exception):
    """Something the user asked for cannot be done as asked; commands print it as one line and exit 1.

    Messages quote file names, column names and values, so whatever those hold is made harmless here.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class InputError(UserError):
    """The source file, or a value in it, is not what the project reads."""


class ProtocolError(InputError):
    """A protocol that this data does not allow: a split would be left without rows. Others may be possible."""


class DownloadError(InputError):
    """A source that is elsewhere could not be fetched; trying again may help."""


class CheckError(UserError):
    """Feature tables break a rule that their protocol states: nothing may be trained on them."""


class NoModelError(UserError):
    """No model is stored that could predict."""


class ModelFileError(UserError):
    """A stored model that may not be loaded: missing, changed, or not of this warehouse."""


class UnknownNameError(UserError):
    """A name that no registry holds; the message lists the known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"Unknown {kind} '{name}'. Known: {', '.join(sorted(known))}.")
