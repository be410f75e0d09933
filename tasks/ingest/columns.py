"""The input's columns: which there are, what counts as missing, and which of a file's names each of them goes by."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import InputError, UserError
from tasks.ingest.files import regular_file
from tasks.specs import AUDIO_FEATURES, FEATURE_SETS, MISSING

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
COLUMN_OF = {"key_code": "key", "mode_code": "mode"}  # of a feature that is not called as its column is
AUDIO_COLUMNS = tuple(COLUMN_OF.get(name, name) for name in AUDIO_FEATURES)
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
TARGETS = ("popularity", "music_genre")
NUMERIC = (*MEASURED, "popularity", "tempo", "duration_ms")
MISSING_TOLD = "empty, ?, -, NA, N/A, nan, None, null or []"
LONGEST_TOML = 1_000_000  # bytes, after which a file of column names is not read
MIN_FEATURES = 6  # of the 12, that tracks to predict must have unless fewer are asked for
SHOWN = 30  # names that a message lists


def is_missing(value: object) -> bool:
    """Whether a value in memory says that there is none, as is_missing of SQL says of texts."""
    return value is None or str(value).strip(" ").lower() in MISSING


@dataclass(frozen=True, slots=True)
class Matched:
    """Which of a file's columns each of ours is."""

    positions: dict[str, int | None]  # by our name; None: it is not there
    note: str | None  # which names were taken for ours although they differ

    @property
    def present(self) -> tuple[str, ...]:
        """Those of ours that are there."""
        return tuple(name for name, at in self.positions.items() if at is not None)


def parse_mapping(text: str) -> dict[str, str]:
    """A column mapping from `ours=theirs,...`, or from a TOML file of such pairs (its `[columns]` table if it has one).

    Raises: UserError: not of that form, a name of ours that does not exist, or one given twice.
    """
    if not text.strip():
        return {}
    pairs = _read_toml(text) if text.endswith(".toml") else read_pairs(text, "--columns", "our_name=name_in_the_file")
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
        with regular_file(Path(path), path) as file:
            table = tomllib.loads(file.read(LONGEST_TOML).decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as a TOML file of column names ({error}).") from error
    columns = table.get("columns", table)
    if not isinstance(columns, dict):
        raise UserError(f"{path}: 'columns' is not a table of names.")
    return list(columns.items())


def read_pairs(text: str, option: str, form: str) -> list[tuple[str, str]]:
    """The pairs of `name=value,...`. Raises: UserError: not of that form."""
    pairs = []
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or not value.strip():
            raise UserError(f"{option}: '{part}' is not of the form {form}.")
        pairs.append((name.strip(), value.strip()))
    return pairs


def match_columns(
    found: list[str],
    mapping: Mapping[str, str],
    source: str,
    required: Collection[str] = (),
    any_of: Collection[str] = (),
) -> Matched:
    """Find each expected column in a file: by its very name, else by one that differs in case, spaces and punctuation.

    The latter only where one column of the file does.

    Args: found: the file's column names in order. mapping: our name to the file's name. source: for messages.
        required: those of ours that must be there, beside those of `mapping`. any_of: of which one must be there.
    Raises: InputError: a needed column is missing, stands there twice or could be several; it names what was found.
    """
    names = [name.strip().removeprefix("\ufeff") for name in found]
    wanted = {ours: mapping.get(ours, ours) for ours in EXPECTED}
    taken = set(wanted.values())
    positions: dict[str, int | None] = {}
    missing, alike = [], []
    for ours, theirs in wanted.items():
        same = [at for at, name in enumerate(names) if name == theirs]
        if len(same) > 1:
            raise InputError(f"{source}: column '{theirs}' stands in the header {len(same)} times. Keep one of them.")
        if not same and (key := simplified(theirs)):
            same = [at for at, name in enumerate(names) if simplified(name) == key and name not in taken]
            if len(same) > 1:
                could = " and ".join(repr(names[at]) for at in same)
                raise InputError(
                    f"{source}: columns {could} could each be '{theirs}'. Choose one with --columns {ours}=..."
                )
            alike += [f"'{names[at]}' for {theirs}" for at in same]
        if not same and (ours in required or ours in mapping):
            missing.append(theirs)
        positions[ours] = same[0] if same else None
    if any_of and all(positions[ours] is None for ours in any_of):
        missing += [wanted[ours] for ours in any_of if wanted[ours] not in missing]
    if missing:
        present = [ours for ours, at in positions.items() if at is not None]
        raise InputError(f"{source}: {_are_missing(missing)} Found: {listed(names)}. {ADVICE}{_without(present)}")
    return Matched(positions, f"columns taken by their names: {', '.join(alike)}" if alike else None)


ADVICE = (
    'Expected the columns listed in docs/commands.md, "Input"; name other spellings with --columns our_name=their_name.'
)


def check_present(present: Collection[str], required: Iterable[str], source: str) -> None:
    """Raises: InputError: a column that is required is not among those that were read."""
    if missing := [name for name in required if name not in present]:
        raise InputError(f"{source}: {_are_missing(missing)} {ADVICE}{_without(present)}")


def simplified(name: str) -> str:
    """A column's name without what does not tell names apart: case, spaces and punctuation."""
    return re.sub(r"[\W_]", "", name.casefold())


def listed(names: list[str]) -> str:
    """Names for a message."""
    return (", ".join(name[:40] for name in names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")) or "nothing"


def _without(present: Collection[str]) -> str:
    """Which feature sets can be trained on with the columns that are there, if not all."""
    possible = [
        one.name
        for one in FEATURE_SETS.values()
        if not one.leaks and {COLUMN_OF.get(name, name) for name in one.columns or AUDIO_FEATURES} <= set(present)
    ]
    is_some = possible and not set(AUDIO_COLUMNS) <= set(present)
    return f" Without them: --feature-sets {','.join(possible)}." if is_some else ""


def _are_missing(names: list[str]) -> str:
    several = len(names) > 1
    return f"column{'s' if several else ''} {', '.join(map(repr, names))} {'are' if several else 'is'} missing."
