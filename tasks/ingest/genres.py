"""The genre spellings of a file: which are the same genre, which mean a missing genre, and messages on both."""

from __future__ import annotations

import duckdb

from tasks.storage import duck

SHOWN = 5  # spellings listed in one message


def know_spellings(connection: duckdb.DuckDBPyConnection, *, is_appended: bool) -> tuple[bool, list[str]]:
    """Creates staging.genre_spellings in memory, from the raw.tracks of a connection.

    Args: is_appended: the file is appended, and staging.base_genres has the genres of its base.

    Returns: whether any spelling differs from the name of its genre, and messages for the user.
    """
    select = duck.render("staging/genre_spellings", is_appended=is_appended)
    connection.execute(f"create or replace table staging.genre_spellings as {select}")

    def rows(condition: str) -> list[tuple[str, int, str | None]]:
        query = f"select spelling, n, genre from staging.genre_spellings where {condition} order by n desc, spelling"
        found: list[tuple[str, int, str | None]] = connection.execute(query).fetchall()
        return found

    missing = rows("genre is null and spelling <> ''")
    others = rows("genre <> spelling")
    lists = rows("is_list")
    notes = []
    if missing:
        texts = _some([f"'{text}' ({n:,})" for text, n, _ in missing])
        notes.append(f"music_genre: {_rows(missing)} say that there is no genre: {texts}.")
    if others:
        texts = _some([f"'{text}' ({n:,}) for '{genre}'" for text, n, genre in others])
        notes.append(f"music_genre: spellings that differ in case, spaces or brackets are one genre: {texts}.")
    if lists:
        notes.append(
            f"music_genre: {_rows(lists)} seem to list several genres, such as '{lists[0][0][:40]}'. Each of these "
            f"{len(lists):,} texts is one label as it stands; with one genre a row there is more to learn from."
        )
    return bool(missing or others), notes


def _rows(found: list[tuple[str, int, str | None]]) -> str:
    n = sum(n for _, n, _ in found)
    return f"{n:,} row{'' if n == 1 else 's'}"


def _some(texts: list[str]) -> str:
    return ", ".join(texts[:SHOWN]) + (f" and {len(texts) - SHOWN:,} more" if len(texts) > SHOWN else "")
