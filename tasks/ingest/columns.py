"""The input's columns: their names, which values are missing, and how a file's own column names match them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
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
COLUMN_OF = {"key_code": "key", "mode_code": "mode"}  # feature: input column, where the names differ
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
TARGET_COLUMNS = ("popularity", "music_genre")
NUMERIC = (*MEASURED, "popularity", "tempo", "duration_ms")
# Columns of public files with Spotify's audio features whose names differ from ours (docs/input.md, "Public files").
PUBLIC_FILES: Mapping[str, Mapping[str, str]] = {
    "tidytuesday": {
        "artist_name": "track_artist",
        "popularity": "track_popularity",
        "music_genre": "playlist_genre",
    },
    "spotify_features": {"music_genre": "genre"},
    "tracks_114": {"artist_name": "artists", "music_genre": "track_genre"},
    "genres_v2": {"track_name": "song_name", "music_genre": "genre"},
}
MISSING_WORDING = "empty, ?, -, NA, N/A, nan, None, null or []"
PAIR = "our_name=name_in_the_file"  # the form of a pair of --columns, for messages
LONGEST_TOML = 1_000_000  # bytes; the rest of a file of column names is not read
MIN_FEATURES = 6  # of the 12; fewer are accepted for predictions only on request
SHOWN = 30  # names that a message lists


def is_missing(value: object) -> bool:
    """Whether a value means a missing value; the SQL macro is_missing does the same for texts."""
    return value is None or str(value).strip(" ").lower() in MISSING


@dataclass(frozen=True, slots=True)
class Matched:
    """The match between the expected columns and a file's columns."""

    positions: dict[str, int | None]  # in the file, by expected name; None: the file lacks the column
    note: str | None  # lists matches of different spelling, for the user

    @property
    def present(self) -> tuple[str, ...]:
        """The expected columns that the file has."""
        return tuple(name for name, at in self.positions.items() if at is not None)


def parse_mapping(given: str | Mapping[str, str]) -> dict[str, str]:
    """Parses a column mapping: `ours=theirs,...`, a name of `PUBLIC_FILES`, or the path of a TOML file of such pairs.

    Pairs after the name of a public file replace its own. A TOML file may have the pairs in a `[columns]` table. A
    dictionary of pairs, from Python, is checked like the others.

    Raises: UserError: another form, an unknown public file or column of ours, or a column given twice.
    """
    known, pairs = _pairs_of(given) if isinstance(given, str) else ({}, list(given.items()))
    mapping: dict[str, str] = {}
    for ours, name in pairs:
        if ours not in EXPECTED:
            raise UserError(f"--columns: unknown column '{ours}'. Known: {', '.join(EXPECTED)}.")
        if ours in mapping:
            raise UserError(f"--columns: '{ours}' is given twice.")
        if not isinstance(name, str):
            raise UserError(f"--columns: the name for '{ours}' is not a text.")
        mapping[ours] = name
    return {**known, **mapping}


def _pairs_of(text: str) -> tuple[Mapping[str, str], Sequence[tuple[str, object]]]:
    """Returns the columns of a public file, if the text names one, and the pairs that the text or its file holds."""
    first, comma, rest = text.partition(",")
    if not text.strip():
        return {}, []
    if text.endswith(".toml"):
        return {}, _read_toml(text)
    if "=" in first:
        return {}, read_pairs(text, "--columns", PAIR)
    return _of_public_file(first.strip()), read_pairs(rest, "--columns", PAIR) if comma else []


def _of_public_file(name: str) -> Mapping[str, str]:
    if name not in PUBLIC_FILES:
        raise UserError(
            f"--columns: '{name}' is not of the form {PAIR}, and is no known public file. "
            f"Known: {', '.join(PUBLIC_FILES)}."
        )
    return PUBLIC_FILES[name]


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
    """Parses the pairs of `name=value,...`. Raises: UserError: the text has another form."""
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
    """Finds each expected column in a file, by its exact name or by a similar one.

    Similar names differ in case, spaces and punctuation only. They are used if exactly one column of the file has one.

    Args: found: the file's column names in order. mapping: expected name to the file's name. source: name of the file
        in messages. required: expected columns that must be found, besides those of `mapping`. any_of: expected columns
        of which at least one must be found.

    Raises: InputError: a needed column is missing, occurs twice or is ambiguous; the message lists the names found.
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
    'Expected the columns listed in docs/input.md, "Columns"; name other spellings with --columns our_name=their_name.'
)


def check_present(present: Collection[str], required: Iterable[str], source: str) -> None:
    """Checks that required columns were read. Raises: InputError: one of them was not."""
    if missing := [name for name in required if name not in present]:
        raise InputError(f"{source}: {_are_missing(missing)} {ADVICE}{_without(present)}")


def simplified(name: str) -> str:
    """Returns a column's name in lower case, without spaces and punctuation."""
    return re.sub(r"[\W_]", "", name.casefold())


def listed(names: list[str]) -> str:
    """Returns names as text for a message: at most 30, each at most 40 characters."""
    return (", ".join(name[:40] for name in names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")) or "nothing"


def _without(present: Collection[str]) -> str:
    """Returns a hint on the feature sets that the present columns allow; empty if they allow all or none."""
    possible = [
        one.name
        for one in FEATURE_SETS.values()
        if not one.leaks and {COLUMN_OF.get(name, name) for name in one.audio_features} <= set(present)
    ]
    is_some = possible and not set(AUDIO_COLUMNS) <= set(present)
    return f" Without them: --feature-sets {','.join(possible)}." if is_some else ""


def _are_missing(names: list[str]) -> str:
    several = len(names) > 1
    return f"column{'s' if several else ''} {', '.join(map(repr, names))} {'are' if several else 'is'} missing."
