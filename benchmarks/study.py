"""Runs the published study's own steps with pandas and scikit-learn, as the reference for tests and benchmarks.

Nothing under `flows/` or `tasks/` imports this. The study has five scripts, each of which reads the CSV that the one
before wrote. `run_scripts` does the same; `prepare` is the same arithmetic without the files in between.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

KEYS = {key: code for code, key in enumerate(["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"])}
MODES = {"Major": 1, "Minor": 0}
# The study's own order of the 12: with it GradientBoosting gives its published RMSE to the last digit.
AUDIO = [
    "acousticness",
    "danceability",
    "energy",
    "valence",
    "tempo",
    "duration_ms",
    "instrumentalness",
    "liveness",
    "loudness",
    "speechiness",
    "key_code",
    "mode_code",
]
FEATURE_SETS = {
    "all": AUDIO,
    "core_audio": ["acousticness", "danceability", "energy", "valence", "tempo"],
    "rhythm": ["danceability", "tempo", "energy", "speechiness"],
}


def clean(raw: pd.DataFrame) -> pd.DataFrame:
    """Drops the rows without a genre; replaces the missing codes of tempo and duration by NaN."""
    frame = raw.dropna(subset=["music_genre"]).reset_index(drop=True)
    frame["tempo"] = pd.to_numeric(frame["tempo"].replace("?", np.nan))
    frame["duration_ms"] = frame["duration_ms"].replace(-1.0, np.nan)
    return frame


def impute(frame: pd.DataFrame) -> pd.DataFrame:
    """Fills duration (whole ms) and tempo (3 decimals) with the mean of the row's genre over all rows."""
    frame = frame.copy()
    by_genre = frame.groupby("music_genre")
    frame["duration_ms"] = frame["duration_ms"].fillna(by_genre["duration_ms"].transform("mean").round(0))
    frame["tempo"] = frame["tempo"].fillna(by_genre["tempo"].transform("mean").round(3)).round(3)
    return frame


def encode(frame: pd.DataFrame) -> pd.DataFrame:
    """Encodes key as semitones above C, mode as 1 (major) or 0 (minor), and genre as one 0/1 column each."""
    frame = frame.copy()
    frame["key_code"] = frame["key"].map(KEYS)
    frame["mode_code"] = frame["mode"].map(MODES)
    return pd.concat([frame, pd.get_dummies(frame["music_genre"], prefix="genre", dtype=int)], axis=1)


def split(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Splits 70/15/15, stratified by genre, random_state 42, in the row order of train_test_split."""
    train, rest = train_test_split(frame, test_size=0.30, random_state=42, stratify=frame["music_genre"])
    val, test = train_test_split(rest, test_size=0.50, random_state=42, stratify=rest["music_genre"])
    return {"train": train, "val": val, "test": test}


def standardize(splits: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Returns z-scores of the audio features by the training rows' mean and population standard deviation."""
    scaler = StandardScaler().fit(splits["train"][AUDIO])
    scaled = {}
    for name, frame in splits.items():
        scaled[name] = frame.copy()
        scaled[name][AUDIO] = scaler.transform(frame[AUDIO])
    return scaled


def project(splits: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Returns the principal components with 95 % of the training rows' variance, and the targets."""
    pca = PCA(n_components=0.95).fit(splits["train"][AUDIO])
    projected = {}
    for name, frame in splits.items():
        scores = pca.transform(frame[AUDIO])
        columns = [f"pc{i + 1}" for i in range(scores.shape[1])]
        targets = frame[["instance_id", "popularity", "music_genre"]]
        projected[name] = pd.concat([targets, pd.DataFrame(scores, columns=columns, index=frame.index)], axis=1)
    return projected


def prepare(csv: Path) -> dict[str, pd.DataFrame]:
    """Returns standardized train, val and test frames with `instance_id`, `popularity`, `music_genre`, genre_*."""
    return standardize(split(encode(impute(clean(pd.read_csv(csv))))))


def run_scripts(csv: Path, out: Path) -> None:
    """Runs all five scripts, each of which reads CSV and writes CSV under `out`."""
    out.mkdir(parents=True, exist_ok=True)
    clean(pd.read_csv(csv)).to_csv(out / "cleaned.csv", index=False)
    impute(pd.read_csv(out / "cleaned.csv")).to_csv(out / "imputed.csv", index=False)
    encode(pd.read_csv(out / "imputed.csv")).to_csv(out / "encoded.csv", index=False)

    encoded = pd.read_csv(out / "encoded.csv")
    genres = [column for column in encoded if column.startswith("genre_")]
    scaled = standardize(split(encoded))
    for name, frame in scaled.items():
        frame[["instance_id", *AUDIO, "music_genre"]].to_csv(out / f"classification_{name}.csv", index=False)
        frame[["instance_id", *AUDIO, "popularity"]].to_csv(out / f"regression_{name}.csv", index=False)
        frame[["instance_id", *AUDIO, *genres, "popularity"]].to_csv(out / f"multitask_{name}.csv", index=False)

    for name, frame in project(scaled).items():
        frame.to_csv(out / f"pca_{name}.csv", index=False)
