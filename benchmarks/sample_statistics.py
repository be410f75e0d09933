"""Computes, from the real file, the statistics that the built-in sample is generated from.

python -m benchmarks.sample_statistics musicData.csv tasks/ingest/sample_statistics.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.study import clean
from tasks.ingest.columns import MEASURED, NUMERIC
from tasks.ingest.sample import KEYS

LEVELS = np.linspace(0.0, 1.0, 41)
RECORDING = [*MEASURED, "key", "mode"]


def measure(csv: Path) -> dict[str, Any]:
    """Returns the statistics in the form that `tasks.ingest.sample` reads."""
    tracks = clean(pd.read_csv(csv))
    genres = sorted(tracks["music_genre"].unique())
    copies = tracks[tracks.duplicated(RECORDING, keep=False)]
    pairs = copies.merge(copies, on=RECORDING)
    pairs = pairs[pairs["instance_id_x"] != pairs["instance_id_y"]]
    together = pd.crosstab(pairs["music_genre_x"], pairs["music_genre_y"]).reindex(
        index=genres, columns=genres, fill_value=0
    )
    numeric = list(NUMERIC)
    return {
        "about": "measured on the real file by benchmarks/sample_statistics.py; the sample is generated from it",
        "levels": [round(level, 4) for level in LEVELS],
        "numeric": numeric,
        "tempo_missing": round(float(tracks["tempo"].isna().mean()), 4),
        "duration_missing": round(float(tracks["duration_ms"].isna().mean()), 4),
        "artist_missing": round(float((tracks["artist_name"] == "empty_field").mean()), 4),
        "duplicate_share": round(float(tracks.duplicated(RECORDING).mean()), 4),
        "genres": {
            genre: _genre(tracks[tracks["music_genre"] == genre], numeric, together.loc[genre]) for genre in genres
        },
    }


def _genre(tracks: pd.DataFrame, numeric: list[str], together: pd.Series) -> dict[str, Any]:
    return {
        "quantiles": {
            name: [float(f"{value:.4g}") for value in np.nanquantile(tracks[name], LEVELS)] for name in numeric
        },
        "rank_correlations": np.round(tracks[numeric].corr(method="spearman").to_numpy(), 3).tolist(),
        "keys": _shares([(tracks["key"] == key).sum() for key in KEYS]),
        "major": round(float((tracks["mode"] == "Major").mean()), 4),
        "duplicated_in": _shares(together.tolist()),
    }


def _shares(counts: list[int]) -> list[float]:
    shares = (np.array(counts) / sum(counts)).round(4)
    shares[shares.argmax()] += 1.0 - shares.sum()
    return [float(share) for share in shares.round(4)]


def main() -> None:
    """Reads the raw file and writes the statistics as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, help="the real raw file")
    parser.add_argument("target", type=Path, help="the file to write, such as tasks/ingest/sample_statistics.json")
    options = parser.parse_args()
    measured = json.dumps(measure(options.source), separators=(",", ":"))
    options.target.write_text(measured.replace('"genres"', '\n"genres"') + "\n")


if __name__ == "__main__":
    main()
