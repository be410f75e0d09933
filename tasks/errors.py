"""Errors that a user can correct: each says what was required, what was found, and what to do."""

from __future__ import annotations

from collections.abc import Iterable


def one_line(text: object) -> str:
    """Returns any text as one line that is safe to show: without line breaks and control characters."""
    line = " ".join(str(text).split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def is_text(text: str) -> bool:
    """Whether a text from the command line or the environment can be written as UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)  # surrogates stand for undecodable bytes


def is_about_room(error: BaseException) -> bool:
    """Whether a library's error means a full disk, an exceeded quota, or a limit on file size."""
    return any(text in str(error) for text in ("No space left on device", "Disk quota exceeded", "File too large"))


# Models of libraries that are not installed by default, with the library and the extra of this project that brings it.
EXTRAS = {"catboost": ("CatBoost", "catboost")}


def missing_library(model: str) -> str | None:
    """Says what to install for a model that is not registered; None if no extra of this project has its library.

    Args: model: its name, or task/model.
    """
    _, _, name = model.rpartition("/")
    if name not in EXTRAS:
        return None
    library, extra = EXTRAS[name]
    return f"needs {library}, which is not installed (pip install 'music-benchmark[{extra}]')"


class UserError(Exception):
    """The user's request cannot be carried out; commands print the message as one line and exit with 1.

    Messages quote file names, column names and values. Control characters in them are replaced here.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class InputError(UserError):
    """The source file, or a value in it, cannot be read by the project."""


class ProtocolError(InputError):
    """The protocol is impossible with this data, because a split would have no rows; others may be possible."""


class DownloadError(InputError):
    """A remote source could not be downloaded; trying again may help."""


class CheckError(UserError):
    """Feature tables break a rule of their protocol, so nothing may be trained on them."""


class PluginError(UserError):
    """A plug-in, or the library of an optional model, cannot be loaded."""


class NoModelError(UserError):
    """No stored model can predict."""


class ModelFileError(UserError):
    """A stored model must not be loaded: it is missing, was changed, or is from another warehouse."""


class UnknownNameError(UserError):
    """A name is in no registry; the message lists the known names, or says which library is missing."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        if kind == "model" and (needs := missing_library(name)):
            super().__init__(f"Model '{name}' {needs}.")
        else:
            super().__init__(f"Unknown {kind} '{name}'. Known: {', '.join(sorted(known))}.")
