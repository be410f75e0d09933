"""Units of columns: the expected scale, how values on another scale are recognized, and conversions.

Only the units that `--units` names are converted, where texts become numbers (sql/staging/typed_tracks.sql). The checks
here look at the converted numbers.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import duckdb
import numpy as np

from tasks.errors import UserError
from tasks.ingest.columns import MEASURED, NUMERIC, read_pairs
from tasks.storage import duck

RANGE = re.compile(r"([+-]?[0-9.]+)\.\.([+-]?[0-9.]+)")
LEAST_SHARE = 0.01  # of a column's values outside its scale, from which on it is reported
LEAST_ROWS = 3  # that must be outside, or half of all rows
TRAINING_SHARE = 0.2  # the same for values outside the range of the training rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit and its conversion to the project's unit: value * times / per + plus."""

    name: str
    times: float = 1.0
    per: float = 1.0
    plus: float = 0.0

    def convert(self, value: float) -> float:
        """Converts a number to the project's unit."""
        return value * self.times / self.per + self.plus

    def sql(self, value: str) -> str:
        """Returns the SQL expression that converts `value`, a SQL expression."""
        return f"({value}) * {self.times!r} / {self.per!r} + {self.plus!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnScale:
    """The range and unit in which a column's values are expected."""

    low: float
    high: float
    unit: str
    units: tuple[Unit, ...]  # other units that can be converted
    usual: float | None  # a typical value, to choose between units that fit; None: the first is chosen
    mixed_share: float = 0.1  # share of values on the scale from which on only part of the rows is in another unit
    most_mean: float | None = None  # a larger mean shows another scale, even if all values are in the range
    least_high: float = -math.inf  # in the right unit the largest value exceeds it

    @property
    def sure(self) -> float:
        """The end of the values that are certainly on the scale: from `low` to here, except 0."""
        return self.high if self.most_mean is None else self.most_mean

    @property
    def wording(self) -> str:
        """The range and unit as text for messages."""
        return (
            f"{self.low:g} to {self.high:g}{self.unit}" if self.high < 1e5 else f"5,000 to {self.high:,.0f}{self.unit}"
        )


PERCENT = Unit(name="percent", per=100.0)
NEGATED = Unit(name="negated", times=-1.0)
FRACTION = ColumnScale(
    low=0, high=1, unit="", units=(PERCENT, Unit(name="per_mille", per=1000.0)), usual=None, least_high=0.1
)
SKEWED = replace(FRACTION, mixed_share=0.7)
SCALES: Mapping[str, ColumnScale] = {
    **dict.fromkeys(MEASURED, FRACTION),
    **dict.fromkeys(("acousticness", "instrumentalness"), SKEWED),
    "loudness": ColumnScale(low=-60, high=5, unit=" dB", units=(NEGATED,), usual=-8, most_mean=0.0),
    "tempo": ColumnScale(
        low=20, high=300, unit=" beats per minute", units=(Unit(name="per_second", times=60.0),), usual=120
    ),
    "duration_ms": ColumnScale(
        low=5_000,
        high=14_400_000,
        unit=" ms",
        units=(
            Unit(name="seconds", times=1000.0),
            Unit(name="minutes", times=60_000.0),
            Unit(name="microseconds", per=1000.0),
        ),
        usual=210_000,
    ),
    "popularity": ColumnScale(low=0, high=100, unit="", units=(Unit(name="fraction", times=100.0),), usual=40),
}
SCALED = "scaled to 0..1"  # from a range that the file does not contain


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSummary:
    """Summary statistics of a column's values, from which its unit is recognized."""

    column: str
    n: int
    low: float
    high: float
    mean: float
    n_outside: int  # values outside the column's scale
    n_inside: int  # certainly on it: below `ColumnScale.sure`, and not 0, which is the same in many units
    outside: tuple[float, float, float]  # quantiles 0.02, 0.5 and 0.98 of those outside


@dataclass(frozen=True, slots=True)
class Doubt:
    """A column whose values are on another scale than expected."""

    seen: ColumnSummary
    unit: str | None  # the likely unit; None: not a known one
    is_mixed: bool  # whether only part of the rows is in that unit

    @property
    def option(self) -> str | None:
        """The value of `--units` that converts the column; None if none does."""
        return None if self.unit in {None, SCALED} or self.is_mixed else f"{self.seen.column}={self.unit}"

    @property
    def rows(self) -> int:
        """The number of rows in question."""
        return self.seen.n_outside or self.seen.n

    @property
    def name(self) -> str:
        """The column and its likely unit, as `column=unit`; equal for files on the same scale."""
        return f"{self.seen.column}={self.unit or 'unknown'}{' in part' if self.is_mixed else ''}"


def parse_units(given: str | Mapping[str, str]) -> dict[str, str]:
    """Parses `--units` to a unit by column, such as `energy=percent,duration_ms=seconds`; or takes a dictionary.

    Raises: UserError: the text has another form, or a column or unit is not known.
    """
    found: dict[str, str] = {}
    text = given.strip() if isinstance(given, str) else ""
    pairs = read_pairs(text, "--units", "our_column=unit") if text else []
    for column, name in pairs if isinstance(given, str) else given.items():
        if column in found:
            raise UserError(f"--units: '{column}' is given twice.")
        unit_of(column, name)
        found[column] = unit_of(column, name).name
    return found


def unit_of(column: str, name: str) -> Unit:
    """Returns a unit by name, or by LOW..HIGH, the values that 0 and 1 stand for. Raises: UserError: it is unknown."""
    if column not in SCALES:
        raise UserError(f"--units: column '{column}' has no units. Those that have: {', '.join(SCALES)}.")
    known = {unit.name: unit for unit in SCALES[column].units}
    if name in known:
        return known[name]
    if limits := RANGE.fullmatch(name):
        try:
            low, high = map(float, limits.groups())
        except ValueError:
            low = high = 0.0
        if low < high:
            return Unit(name=name, times=high - low, plus=low)
    raise UserError(
        f"--units: unknown unit '{name}' of {column}. Known: {', '.join(known)}, or LOW..HIGH if the file's 0 and 1 "
        f"stand for them (-60..0, say). Without --units: {SCALES[column].wording}."
    )


def typed_select(units: Mapping[str, str], *, is_respelled: bool = False) -> str:
    """Returns the SELECT of staging.typed_tracks. Args: units: by column. is_respelled: as in that SELECT."""
    numbers = {}
    for name in NUMERIC:
        number = f"try_cast(case when not contains({name}, '_') then {name} end as double)"  # 1_000 is no number
        number = f"case when abs({number}) < 1e15 then {number} end"
        numbers[name] = unit_of(name, units[name]).sql(number) if name in units else number
    return duck.render("staging/typed_tracks", numbers=numbers, is_respelled=is_respelled)


def look(
    connection: duckdb.DuckDBPyConnection, present: Collection[str], scales: Mapping[str, ColumnScale] = SCALES
) -> list[ColumnSummary]:
    """Summarizes each column with a scale and values in the staging.typed_tracks of a connection."""
    asked = {name: scale for name, scale in scales.items() if name in present}
    if not asked:
        return []
    rows = connection.execute(duck.render("quality/scales", scales=asked))
    names = [description[0] for description in rows.description or []]
    found = [dict(zip(names, row, strict=True)) for row in rows.fetchall()]
    return [ColumnSummary(**row | {"outside": tuple(row["outside"] or (math.nan,) * 3)}) for row in found if row["n"]]


def look_at(column: str, x: np.ndarray) -> ColumnSummary | None:
    """Summarizes the values of one column in memory; None if there are none. Args: x: numbers, shape (n,)."""
    if not len(x):
        return None
    scale = SCALES[column]
    inside = (x >= scale.low) & (x <= scale.high)
    low, median, high = (math.nan,) * 3 if inside.all() else np.quantile(x[~inside], [0.02, 0.5, 0.98])
    return ColumnSummary(
        column=column,
        n=len(x),
        low=float(x.min()),
        high=float(x.max()),
        mean=float(x.mean()),
        n_outside=int((~inside).sum()),
        n_inside=int((inside & (x != 0) & (x < scale.sure)).sum()),
        outside=(float(low), float(median), float(high)),
    )


def doubts(seen: Iterable[ColumnSummary]) -> list[Doubt]:
    """Returns the columns that are on another scale than expected, unless only a few rows are."""
    found = []
    for one in seen:
        scale = SCALES[one.column]
        is_outside = is_no_accident(one.n_outside, one.n, LEAST_SHARE)
        if one.column in {"tempo", "loudness"} and one.low >= 0 and one.high <= 1:
            found.append(Doubt(one, SCALED, is_mixed=False))
        elif is_outside or _is_shifted(one, scale):
            is_mixed = is_outside and one.n_inside >= scale.mixed_share * one.n
            values = one.outside if is_outside else (one.low, one.mean, one.high)
            found.append(Doubt(one, _likely(scale, values), is_mixed))
    return _agreed(found)


def _agreed(found: list[Doubt]) -> list[Doubt]:
    """Returns the doubts with one unit for all columns of fractions in a file: the most frequent, where it fits.

    If other columns are mixed, so are acousticness and instrumentalness: most of their values are near 0 in any unit.
    """
    fractions = [doubt for doubt in found if SCALES[doubt.seen.column].units == FRACTION.units]
    names = Counter(doubt.unit for doubt in fractions if doubt.unit).most_common(1)
    is_mixed = any(doubt.is_mixed for doubt in fractions if SCALES[doubt.seen.column] == FRACTION)

    def agreeing(doubt: Doubt) -> Doubt:
        unit = next(unit for unit in FRACTION.units if unit.name == names[0][0])
        fits = all(FRACTION.low <= unit.convert(value) <= FRACTION.high for value in doubt.seen.outside)
        return replace(
            doubt,
            unit=unit.name if fits else doubt.unit,
            is_mixed=doubt.is_mixed or (is_mixed and SCALES[doubt.seen.column] == SKEWED),
        )

    return [agreeing(doubt) if names and doubt in fractions else doubt for doubt in found]


def _likely(scale: ColumnScale, values: tuple[float, float, float]) -> str | None:
    """Returns the unit in which values would be on the scale; of several, the one closest to the usual value.

    Args: values: a low, a middle and a high value of the column.
    """

    def distance(unit: Unit) -> float:
        if scale.usual is None:
            return 0.0
        return abs(math.log(max(abs(unit.convert(values[1]) / scale.usual), 1e-9)))

    def fits(unit: Unit) -> bool:
        converted = [unit.convert(value) for value in values]
        return scale.low <= min(converted) and scale.least_high < max(converted) <= scale.high

    unit = min(filter(fits, scale.units), key=distance, default=None)
    return unit.name if unit else None


def unlike_training(
    connection: duckdb.DuckDBPyConnection, ranges: Mapping[str, tuple[float, float]], doubted: Collection[str]
) -> str | None:
    """Returns a message on columns with many values outside the range of the training rows; None if there are none.

    Args: connection: has the tracks as staging.typed_tracks. ranges: lowest and highest training value by column.
        doubted: columns that another message is about.
    """
    scales = {
        name: ColumnScale(low=low, high=high, unit="", units=(), usual=1)
        for name, (low, high) in ranges.items()
        if name in SCALES and name not in doubted and low < high
    }
    columns = [
        f"{_range(one)}; {one.n_outside:,} of {one.n:,} values), in training "
        f"{_number(scales[one.column].low)} to {_number(scales[one.column].high)}"
        for one in look(connection, scales, scales)
        if is_no_accident(one.n_outside, one.n, TRAINING_SHARE)
    ]
    return (
        f"units: outside the range of the training rows: {'; '.join(columns)}. Is it the same unit?"
        if columns
        else None
    )


def is_no_accident(n: int, of: int, share: float) -> bool:
    """Whether `n` of `of` values are at least a given share, and more than a few odd rows."""
    return n >= share * of and n > 0 and (n >= LEAST_ROWS or 2 * n >= of)


def _is_shifted(one: ColumnSummary, scale: ColumnScale) -> bool:
    """Whether values in the range are still on another scale: popularity up to 1, loudness above 0 dB on average."""
    if one.column == "popularity":
        return one.n >= LEAST_ROWS and 0 < one.high <= 1
    return scale.most_mean is not None and one.mean > scale.most_mean


def doubt_messages(found: Iterable[Doubt]) -> list[str]:
    """Returns messages for the user, one for all columns with the same expected scale and likely unit."""
    alike: dict[tuple[str, str | None, bool], list[Doubt]] = {}
    for doubt in found:
        alike.setdefault((SCALES[doubt.seen.column].wording, doubt.unit, doubt.is_mixed), []).append(doubt)
    return [_line(expected, group) for (expected, *_), group in alike.items()]


def _line(expected: str, group: list[Doubt]) -> str:
    columns = ", ".join(f"{_range(one.seen)}; {one.rows:,} of {one.seen.n:,} values)" for one in group)
    first = group[0]
    likely = f"likely {first.unit}" if first.unit else "in a unit that is not known"
    if first.is_mixed:
        advice = "Only part of the rows are: bring each column to one unit in the file"
    elif first.option:
        advice = f"Convert with --units {','.join(str(one.option) for one in group)}"
    elif first.unit == SCALED:
        names = ",".join(f"{one.seen.column}=LOW..HIGH" for one in group)
        advice = f"Where the range is known, convert with --units {names}"
    else:
        advice = f"Give {'it' if len(group) == 1 else 'them'} in that unit"
    return f"units: {columns}: expected {expected}; {likely}. {advice}."


def _range(one: ColumnSummary) -> str:
    return f"{one.column} ({_number(one.low)} to {_number(one.high)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
