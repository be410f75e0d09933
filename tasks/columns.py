"""The input's columns: which are needed, and which of a file's names each of them goes by."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

from tasks.errors import InputError, UserError

OPTIONAL = ("instance_id", "obtained_date")
EXPECTED = [
    "instance_id",
    "artist_name",
    "track_name",
    "popularity",
    "acousticness",
    "danceability",
    "duration_ms",
    "energy",
    "instrumentalness",
    "key",
    "liveness",
    "loudness",
    "mode",
    "speechiness",
    "tempo",
    "obtained_date",
    "valence",
    "music_genre",
]
REQUIRED = tuple(name for name in EXPECTED if name not in OPTIONAL)
# Measured for every track: a row where one of them is no finite number is rejected.
MEASURED = (
    "acousticness",
    "danceability",
    "energy",
    "instrumentalness",
    "liveness",
    "loudness",
    "speechiness",
    "valence",
)
NUMERIC = (*MEASURED, "popularity", "tempo", "duration_ms")


def parse_mapping(text: str) -> dict[str, str]:
    """A column mapping from `ours=theirs,...`, or from a TOML file of such pairs (its `[columns]` table if it has one).

    Raises: UserError: not of that form, a name of ours that does not exist, or one given twice.
    """
    if not text.strip():
        return {}
    pairs = _read_toml(text) if text.endswith(".toml") else _read_pairs(text)
    mapping: dict[str, str] = {}
    for ours, name in pairs:
        if ours not in EXPECTED:
            raise UserError(f"--columns: unknown column '{ours}'. Known: {', '.join(EXPECTED)}.")
        if ours in mapping:
            raise UserError(f"--columns: '{ours}' is given twice.")
        if not isinstance(name, str):
            raise UserError(f"--columns: the name for '{ours}' is not a text.")
        mapping[ours] = name
    return mapping


def _read_toml(path: str) -> list[tuple[str, object]]:
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a TOML file of column names ({error}).") from error
    columns = table.get("columns", table)
    if not isinstance(columns, dict):
        raise UserError(f"{path}: 'columns' is not a table of names.")
    return list(columns.items())


def _read_pairs(text: str) -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = []
    for part in text.split(","):
        ours, equals, theirs = part.partition("=")
        if not equals or not theirs.strip():
            raise UserError(f"--columns: '{part}' is not of the form our_name=name_in_the_file.")
        pairs.append((ours.strip(), theirs.strip()))
    return pairs


def match_columns(
    found: list[str], mapping: Mapping[str, str], source: str, required: Collection[str] = REQUIRED
) -> dict[str, int | None]:
    """For each expected column its position in the file, None for an optional one that is not there.

    Args: found: the file's column names in order. mapping: our name to the file's name. source: for messages.
        required: those of ours that must be there.
    Raises: InputError: a needed column is missing or stands there twice, naming it and what was found.
    """
    names = [name.strip().removeprefix("\ufeff") for name in found]
    positions: dict[str, int | None] = {}
    missing = []
    for ours in EXPECTED:
        theirs = mapping.get(ours, ours)
        count = names.count(theirs)
        if count > 1:
            raise InputError(f"{source}: column '{theirs}' stands in the header {count} times. Keep one of them.")
        if count == 0 and (ours in required or ours in mapping):
            missing.append(theirs)
        positions[ours] = names.index(theirs) if count else None
    if missing:
        shown = ", ".join(name[:40] for name in names[:30]) + (", ..." if len(names) > 30 else "")
        raise InputError(
            f"{source}: column{'s' if len(missing) > 1 else ''} {', '.join(repr(name) for name in missing)} "
            f"{'are' if len(missing) > 1 else 'is'} missing. Found: {shown or 'nothing'}. Expected the columns "
            'listed in docs/commands.md, "Input"; name other spellings with --columns our_name=their_name.'
        )
    return positions
