"""Separators of several artists in one name, beside those that always count (sql/features/track_artists.sql)."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.errors import UserError
from tasks.features.registry import BuiltTable
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse

CANDIDATES = (", ", ",", " & ", " x ", "/", " and ", " + ", " with ", " vs. ", "|")
# A separator is suggested if so many of the names with it, and this share of them, contain another artist's name.
LEAST_NAMES = 5
LEAST_SHARE = 1 / 3


def normal_separators(given: Sequence[str]) -> list[str]:
    """Returns separators as SQL replaces them: in lower case, the longest first, and words between spaces.

    Raises: UserError: one is blank.
    """
    if any(not separator.strip() for separator in given):
        raise UserError("--artist-separators: one is blank, which would separate a name's own words. Give others.")
    lowered = {separator.lower() for separator in given}
    words = {f" {one.strip()} " if one.strip().isalnum() else one for one in lowered}
    return sorted(words, key=lambda one: (-len(one), one))


def unseparated(tables: Sequence[BuiltTable], warehouse: Warehouse) -> str | None:
    """Returns a hint that names seem to hold several artists; None if none do, or without a table of artists."""
    path = next((table.path for table in tables if table.table_name == "features.track_artists"), None)
    if path is None:
        return None
    values = {"candidates": list(CANDIDATES), "least_names": LEAST_NAMES, "least_share": LEAST_SHARE}
    with duck.workspace(spill=warehouse.scratch) as connection:
        duck.view(connection, "features.track_artists", warehouse.here(path))
        found = connection.execute(duck.render("quality/artist_separators"), values).fetchall()
    if not found:
        return None
    _, names, holding, example, alone = found[0]
    option = " ".join(f'"{separator}"' for separator, *_ in found)
    return (
        f"artist_name: {holding:,} of {names:,} names such as '{example}' contain another artist's name ('{alone}'). "
        f"If they name several artists, give --artist-separators {option}: cold_start then keeps each on one side"
    )
