"""How rows are assigned to train, val and test."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tasks.errors import InputError
from tasks.specs import STUDY_SEED


def study_split(track_id: np.ndarray, genre: np.ndarray) -> pa.Table:
    """The study's split: 70/15/15, stratified by genre, `random_state=42`, over the rows in file order.

    Args: track_id, genre: shape (n_rows,), in file order.
    Returns: columns track_id, split, position: the row's place in its split, in the shuffled order in which
        scikit-learn leaves it. Training in that order reproduces the study's fits.
    Raises: InputError: too few rows to stratify.
    Source: sklearn.model_selection.train_test_split, called twice as the study did.
    """
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(track_id))
    try:
        train, rest = train_test_split(rows, test_size=0.30, random_state=STUDY_SEED, stratify=genre)
        val, test = train_test_split(rest, test_size=0.50, random_state=STUDY_SEED, stratify=genre[rest])
    except ValueError as error:
        raise InputError(
            f"{len(rows)} usable rows of {len(np.unique(genre))} genres cannot be split 70/15/15 by genre ({error}). "
            "Give more rows, or drop rare genres with --min-genre-rows."
        ) from error
    splits = {"train": train, "val": val, "test": test}
    return pa.table(
        {
            "track_id": track_id[np.concatenate(list(splits.values()))],
            "split": pa.chunked_array([pa.repeat(name, len(members)) for name, members in splits.items()]),
            "position": np.concatenate([np.arange(len(members)) for members in splits.values()]),
        }
    )
