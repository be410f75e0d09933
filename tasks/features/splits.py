"""Assigns tracks to train, val and test, and finds the tracks that must stay together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

import numpy as np
import polars as pl
import pyarrow as pa
from scipy import sparse
from scipy.sparse import csgraph

from tasks.errors import InputError, ProtocolError
from tasks.specs import STUDY_SEED, Protocol

SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}


def split_tracks(protocol: Protocol, tracks: pa.Table) -> pa.Table:
    """Returns features.split_assignment of a protocol: track_id, split, position (of the row in its split), group_id.

    Models are trained in the order of position. Bootstrap resamples keep the tracks of a group_id together.

    Args: tracks: the columns of sql/features/split_input.sql, of grouped_split_input.sql for a grouped split, or of
        artists_split_input.sql or recordings_split_input.sql for one that leaves training rows out (split `unused`).

    Raises:
        InputError: too few rows to split.
        ProtocolError: a split would have no rows, or training fewer than two genres.
    """
    if protocol.split == "grouped":
        parts = grouped_split(tracks["genre_id"].to_numpy(), tracks["group_id"].to_numpy())
        return _assignment(parts, tracks["track_id"].to_numpy(), tracks["group_id"].to_numpy())
    ids = tracks["track_id"].to_numpy()
    is_first = np.append(True, ids[1:] != ids[:-1])  # row of its track, whose rows follow one another
    genre, ids = tracks["genre_id"].to_numpy()[is_first], ids[is_first]
    parts = study_split(genre)
    if protocol.left_out:
        is_shared = tracks["shared_id"].is_valid().to_numpy()
        member = (np.cumsum(is_first) - 1)[is_shared]
        parts = _leave_out(parts, member, tracks["shared_id"].drop_null().to_numpy(), protocol.is_control)
        if len(np.unique(genre[parts["train"]])) < min(2, len(np.unique(genre))):
            raise ProtocolError(
                f"{protocol.name} cannot be measured: without the training rows that share one of the "
                f"{protocol.left_out} with a test row, {len(parts['train'])} are left, of fewer than two genres."
            )
    return _assignment(parts, ids, ids)


def split_appended(protocol: Protocol, tracks: pa.Table, taken: Mapping[str, int]) -> pa.Table:
    """Returns features.split_assignment of appended tracks. None joins val or test, so that scores stay comparable.

    Appended tracks are training rows, in random order after those of the base. Some are left out (split `unused`):
    - of a probe: the tracks that it leaves out of training;
    - of a grouped split: every track of a group (of appended tracks alone) in which a track has the artist or recording
      of a base track outside of training.

    Args: tracks: the columns of sql/features/split_input.sql, or of appended_split_input.sql for a protocol that keeps
        artists or recordings apart. taken: the number of the base's rows in each split.
    """
    ids = tracks["track_id"].to_numpy()
    groups, unused = ids, np.zeros(len(ids), dtype=bool)
    if protocol.left_out:
        unused = tracks[f"{protocol.left_out}_in_test"].to_numpy().copy()
        if protocol.is_control:
            np.random.default_rng(STUDY_SEED).shuffle(unused)
    elif protocol.split == "grouped":
        groups = tracks["group_id"].to_numpy()
        unused = np.isin(groups, groups[tracks["is_linked"].to_numpy()])
    order = np.random.default_rng(STUDY_SEED).permutation(len(ids))
    return _assignment({"train": order[~unused[order]], "unused": order[unused[order]]}, ids, groups, taken)


def study_split(genre: np.ndarray) -> dict[str, np.ndarray]:
    """The study's split: 70/15/15, stratified by genre, `random_state=42`.

    Args: genre: shape (n_rows,), in file order.

    Returns: row numbers by split, in the shuffled order of scikit-learn. Training in that order reproduces the study's
        fits.

    Raises: InputError: too few rows to stratify.

    Source: sklearn.model_selection.train_test_split, called twice as the study did.
    """
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(genre))
    try:
        train, rest = train_test_split(rows, test_size=0.30, random_state=STUDY_SEED, stratify=genre)
        val, test = train_test_split(rest, test_size=0.50, random_state=STUDY_SEED, stratify=genre[rest])
    except ValueError as error:
        raise InputError(
            f"{len(rows)} usable rows of {len(np.unique(genre))} genres cannot be split 70/15/15 by genre ({error}). "
            "Give more rows, or drop rare genres with --min-genre-rows."
        ) from error
    return {"train": train, "val": val, "test": test}


def grouped_split(
    genre: np.ndarray, group: np.ndarray, shares: Mapping[str, float] = MappingProxyType(SHARES)
) -> dict[str, np.ndarray]:
    """Splits rows with every group in one split, as near to stratified by genre as the groups allow.

    Groups of several rows are placed first, the largest first. Each goes to the split where the sum over splits and
    genres of (count - wanted)^2 / wanted grows least. Groups of one row then fill the remaining places.

    Args: genre, group: shape (n_rows,), in an order that does not depend on the file's. shares: of the rows, by split;
        they add up to 1.

    Returns: row numbers by split, in the order given.

    Raises: ProtocolError: a split would have no rows.

    Source: the greedy rule of sklearn.model_selection.StratifiedGroupKFold, for unequal shares and many groups.
    """
    labels, first, members, sizes = np.unique(group, return_index=True, return_inverse=True, return_counts=True)
    counts = sparse.csr_matrix((np.ones(len(genre)), (members, genre)), shape=(len(labels), int(genre.max()) + 1))
    wanted = np.outer(list(shares.values()), np.asarray(counts.sum(axis=0)).ravel())
    have = np.zeros_like(wanted)
    side = np.zeros(len(labels), dtype=np.int8)
    for label in np.lexsort((first, -sizes))[: int((sizes > 1).sum())]:
        genres = counts.indices[counts.indptr[label] : counts.indptr[label + 1]]
        added = counts.data[counts.indptr[label] : counts.indptr[label + 1]]
        growth = (added * (added + 2 * (have[:, genres] - wanted[:, genres])) / wanted[:, genres]).sum(axis=1)
        side[label] = growth.argmin()
        have[side[label], genres] += added
    single = np.flatnonzero(sizes[members] == 1)
    for code in range(wanted.shape[1]):
        rows = single[genre[single] == code]
        taken = 0
        for at in range(1, len(shares)):  # the first gets the others
            places = max(0, round(wanted[at, code] - have[at, code]))
            side[members[rows[taken : taken + places]]] = at
            taken += places
    parts = {name: np.flatnonzero(side[members] == at) for at, name in enumerate(shares)}
    _check_filled([name for name, rows in parts.items() if len(rows)], shares, len(genre), len(labels))
    return parts


def without(assigned: pa.Table, track_id: pa.ChunkedArray) -> pa.Table:
    """Returns a grouped split with some tracks moved to split `unused`.

    Args: assigned: the split, as `split_tracks` returns it. track_id: the tracks to move.

    Raises: ProtocolError: a split would have no rows.
    """
    is_left_out = pl.col("track_id").is_in(pl.Series(track_id).implode())
    frame = pl.DataFrame(assigned).with_columns(split=pl.when(is_left_out).then(pl.lit("unused")).otherwise("split"))
    _check_filled(frame["split"].unique().to_list(), SHARES, frame.height, frame["group_id"].n_unique())
    return frame.with_columns(position=pl.int_range(pl.len()).over("split")).to_arrow()


def _check_filled(filled: Collection[str], wanted: Iterable[str], n_rows: int, n_groups: int) -> None:
    if empty := [name for name in wanted if name not in filled]:
        raise ProtocolError(
            f"A grouped split is not possible: {n_rows} usable rows, in {n_groups} group(s) linked by artist or "
            f"recording, cannot be split 70/15/15; nothing is left for {' and '.join(empty)}. More artists are needed."
        )


def linked_artists(recording: np.ndarray, artist: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Groups the artists that are linked by a chain of shared recordings.

    Args: recording, artist: ids, shape (n_pairs,): the artists of the recordings that have several.

    Returns: artist ids, each once, and the lowest artist id of each artist's group.

    Source: scipy.sparse.csgraph.connected_components on the graph of recordings and artists.
    """
    recordings, recording_node = np.unique(recording, return_inverse=True)
    artists, artist_node = np.unique(artist, return_inverse=True)
    size = len(artists) + len(recordings)
    edges = (np.ones(len(artist_node), dtype=np.int8), (artist_node, len(artists) + recording_node))
    _, component = csgraph.connected_components(sparse.coo_matrix(edges, shape=(size, size)), directed=False)
    lowest = np.full(size, np.iinfo(np.int64).max)
    np.minimum.at(lowest, component[: len(artists)], artists)
    return artists, lowest[component[: len(artists)]]


def _leave_out(
    parts: dict[str, np.ndarray], member: np.ndarray, shared: np.ndarray, is_control: bool
) -> dict[str, np.ndarray]:
    """Moves training rows that share an id with a test row to `unused`; for a control, as many random rows.

    Args: member, shared: shape (n_pairs,): a row number, and an id that the row has.
    """
    train = parts["train"]
    in_test = shared[np.isin(member, parts["test"])]
    is_linked = np.isin(train, member[np.isin(shared, in_test)])
    if is_control:
        np.random.default_rng(STUDY_SEED).shuffle(is_linked)
    return parts | {"train": train[~is_linked], "unused": train[is_linked]}


def _assignment(
    parts: dict[str, np.ndarray],
    track_id: np.ndarray,
    group_id: np.ndarray,
    taken: Mapping[str, int] = MappingProxyType({}),
) -> pa.Table:
    rows = np.concatenate(list(parts.values()))
    return pa.table(
        {
            "track_id": track_id[rows],
            "split": pa.chunked_array([pa.repeat(name, len(members)) for name, members in parts.items()]),
            "position": np.concatenate(
                [taken.get(name, 0) + np.arange(len(members)) for name, members in parts.items()]
            ),
            "group_id": group_id[rows],
        }
    )
