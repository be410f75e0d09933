"""Finds targets that do not vary in a split, and says what this means for scores and champions."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.errors import one_line
from tasks.features.registry import BuiltTable
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse

Constant = dict[str, str]  # by split, the value that a target has in every row
SPLITS = {"train": "training", "val": "validation", "test": "test"}
CHOSEN_BY = ("train", "val")  # the splits in which a target must vary for a champion to be chosen


def constant_targets(prepared: BuiltTable, warehouse: Warehouse) -> dict[str, Constant]:
    """Returns the constant targets, by task and split. Args: prepared: features.tracks_std."""
    with duck.workspace(spill=warehouse.scratch) as connection:
        duck.view(connection, "features.tracks_std", *warehouse.parts(prepared.path))
        found: dict[str, Constant] = {}
        for task, split, value in connection.execute(duck.render("quality/constant_targets")).fetchall():
            found.setdefault(task, {})[split] = value
        return found


def obstacle(task: str, constant: Constant) -> str | None:
    """Returns the reason why no champion is chosen for a task; None if one can be chosen."""
    if not any(split in constant for split in CHOSEN_BY):
        return None
    return f"no champion is chosen for {task}: {_said(task, constant)}"


def notes(tables: Sequence[BuiltTable], warehouse: Warehouse) -> list[str]:
    """Returns a line for each constant target of each protocol, for people."""
    lines = []
    for table in tables:
        if table.table_name == "features.tracks_std":
            for task, constant in constant_targets(table, warehouse).items():
                is_judged = task == "popularity" and not constant.keys() <= {"train"}
                undefined = ", so that r2 and spearman are not defined there (NULL)" if is_judged else ""
                chosen = f"; no champion is chosen for {task}" if obstacle(task, constant) else ""
                lines.append(f"{table.protocol}: {_said(task, constant)}{undefined}{chosen}")
    return lines


def _said(task: str, constant: Constant) -> str:
    of = [name for split, name in SPLITS.items() if split in constant]
    rows = "rows" if len(of) == len(SPLITS) else f"{' and '.join(of)} rows"
    values = " or ".join(dict.fromkeys(constant.values()))
    return one_line(f"{task} is {values} in all {rows}")
