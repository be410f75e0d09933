"""The built-in sample: generated tracks in the format of the raw file. It is not real data, and never shown as such.

Values follow `sample_statistics.json`, which `benchmarks/sample_statistics.py` measured on the real file. It has, by
genre, 41 quantiles of each numeric column, their rank correlations, and the frequencies of keys and modes. It also has
the shares of missing values and of recordings listed under two genres. One Gaussian copula per genre combines them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.special import ndtr

from tasks.ingest.columns import EXPECTED
from tasks.specs import STUDY_SEED
from tasks.storage.duck import digest
from tasks.storage.warehouse import Warehouse

STATISTICS_FILE = Path(__file__).with_name("sample_statistics.json")
CHUNK_ROWS = 100_000
ROWS_PER_BLANK = 10_000  # the real file has 5 blank rows among 50,005
ROWS_PER_ARTIST = 7
DECIMALS = {"duration_ms": 0, "popularity": 0, "loudness": 3, "tempo": 3}
KEYS = np.array(["A", "A#", "B", "C", "C#", "D", "D#", "E", "F", "F#", "G", "G#"])


def sample_file(warehouse: Warehouse, rows: int, seed: int = STUDY_SEED) -> Path:
    """Returns the path of a generated CSV file of `rows` tracks in the warehouse, which is written on first use."""
    path = sample_path(warehouse, rows, seed)
    if not path.exists():
        with warehouse.replacing(path, stored=False) as temporary:
            write_sample(temporary, rows, seed)
    return path


def sample_path(warehouse: Warehouse, rows: int, seed: int = STUDY_SEED) -> Path:
    """Returns the path of the file of `sample_file`; it changes with this module and its statistics."""
    version = digest(Path(__file__).read_text(encoding="utf-8"), STATISTICS_FILE.read_text(encoding="utf-8"))
    return warehouse.root / "sample" / f"sample-{rows}-{seed}-{version}.csv"


def write_sample(path: Path, rows: int, seed: int = STUDY_SEED) -> None:
    """Writes generated tracks as CSV, in chunks of 100,000 rows, so that memory is bounded."""
    with path.open("wb") as file:
        for number, chunk in enumerate(generate(rows, seed)):
            chunk.write_csv(file, include_header=number == 0)


def generate(rows: int, seed: int = STUDY_SEED) -> Iterator[pl.DataFrame]:
    """Yields chunks of at most 100,000 generated tracks: the raw file's 18 columns as text; some rows are blank."""
    statistics = json.loads(STATISTICS_FILE.read_text(encoding="utf-8"))
    for number, start in enumerate(range(0, rows, CHUNK_ROWS)):
        size = min(CHUNK_ROWS, rows - start)
        yield _chunk(statistics, start, size, rows, np.random.default_rng([seed, number]))


def _chunk(statistics: dict[str, Any], start: int, size: int, total: int, random: np.random.Generator) -> pl.DataFrame:
    genres = list(statistics["genres"])
    genre = random.integers(len(genres), size=size)
    values = {name: np.empty(size) for name in statistics["numeric"]}
    key = np.empty(size, dtype=np.int64)
    is_major = np.empty(size, dtype=bool)
    for code, name in enumerate(genres):
        members = np.flatnonzero(genre == code)
        of_genre = statistics["genres"][name]
        for column, drawn in _copula(of_genre, statistics, len(members), random).items():
            values[column][members] = drawn
        key[members] = random.choice(len(KEYS), p=of_genre["keys"], size=len(members))
        is_major[members] = random.random(len(members)) < of_genre["major"]
    artist = _artists(genre, len(genres), total, random)
    recording = _recordings(statistics, genres, genre, random)
    audio = {name: column[recording] for name, column in values.items() if name != "popularity"}
    # A recording listed twice keeps the popularity of its own listing, near that of the other.
    popularity = np.where(recording == np.arange(size), values["popularity"], values["popularity"][recording])
    text = {name: _text(column, name) for name, column in {**audio, "popularity": popularity}.items()}
    text["tempo"] = np.where(random.random(size) < statistics["tempo_missing"], "?", text["tempo"])
    text["duration_ms"] = np.where(random.random(size) < statistics["duration_missing"], "-1.0", text["duration_ms"])
    names = np.char.add("Artist ", artist[recording].astype(str))
    text["artist_name"] = np.where(random.random(size) < statistics["artist_missing"], "empty_field", names)
    text["track_name"] = np.char.add("Track ", (start + recording).astype(str))
    text["instance_id"] = np.char.add((20_000 + start + random.permutation(size)).astype(str), ".0")
    text["key"] = KEYS[key[recording]]
    text["mode"] = np.where(is_major[recording], "Major", "Minor")
    text["obtained_date"] = random.choice(np.array(["1-Apr", "3-Apr", "4-Apr", "5-Apr"]), size=size)
    text["music_genre"] = np.array(genres)[genre]
    frame = pl.DataFrame({name: text[name] for name in EXPECTED})
    return _with_blank_rows(frame, start, size)


def _copula(
    of_genre: dict[str, Any], statistics: dict[str, Any], size: int, random: np.random.Generator
) -> dict[str, np.ndarray]:
    """Draws columns with quantiles and rank correlations of one genre. Source: Nelsen, An Introduction to Copulas."""
    names = statistics["numeric"]
    correlation = 2.0 * np.sin(np.pi / 6.0 * np.array(of_genre["rank_correlations"]))
    scale, directions = np.linalg.eigh(correlation)
    normal = random.standard_normal((size, len(names))) @ (directions * np.sqrt(scale.clip(min=0.0))).T
    uniform = ndtr(normal / np.sqrt((directions**2 * scale.clip(min=0.0)).sum(axis=1)))
    levels = np.array(statistics["levels"])
    return {name: np.interp(uniform[:, i], levels, of_genre["quantiles"][name]) for i, name in enumerate(names)}


def _artists(genre: np.ndarray, n_genres: int, total: int, random: np.random.Generator) -> np.ndarray:
    """Draws an artist for each row: few have many tracks, many have few, and nearly all have one genre."""
    per_genre = max(1, total // (ROWS_PER_ARTIST * n_genres))
    own = np.where(random.random(len(genre)) < 0.03, random.integers(n_genres, size=len(genre)), genre)
    return own * per_genre + (per_genre * random.random(len(genre)) ** 2).astype(np.int64)


def _recordings(
    statistics: dict[str, Any], genres: list[str], genre: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Draws for each row the row whose recording it lists: itself, or a row of another genre."""
    recording = np.arange(len(genre))
    originals = random.random(len(genre)) >= statistics["duplicate_share"]
    pools = [np.flatnonzero((genre == code) & originals) for code in range(len(genres))]
    for code, name in enumerate(genres):
        copies = np.flatnonzero((genre == code) & ~originals)
        partner = random.choice(len(genres), p=statistics["genres"][name]["duplicated_in"], size=len(copies))
        for other in range(len(genres)):
            listed = copies[partner == other]
            if len(pools[other]) and len(listed):
                recording[listed] = random.choice(pools[other], size=len(listed))
    return recording


def _text(values: np.ndarray, name: str) -> np.ndarray:
    """Formats numbers as in the real file: with fixed decimals (DECIMALS), else with three significant digits."""
    if name in DECIMALS:
        rounded = np.round(values, DECIMALS[name])
    else:
        digits = 2 - np.floor(np.log10(np.abs(values).clip(min=1e-12))).astype(np.int64)
        factor = 10.0 ** digits.clip(max=12)
        rounded = np.round(values * factor) / factor
    return pl.Series(rounded).cast(pl.String).to_numpy().astype(str)


def _with_blank_rows(frame: pl.DataFrame, start: int, size: int) -> pl.DataFrame:
    blanks = (start + size) // ROWS_PER_BLANK - start // ROWS_PER_BLANK
    if not blanks:
        return frame
    blank = pl.DataFrame({name: [None] * blanks for name in EXPECTED}, schema=frame.schema)
    middle = size // 5
    return pl.concat([frame[:middle], blank, frame[middle:]])
