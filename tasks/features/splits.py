"""How rows are assigned to train, val and test, and which tracks belong together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
    """features.split_assignment of a protocol: track_id, split, position (of the row in its split), group_id.

    Models are trained in the order of position. Bootstrap resamples keep the tracks of a group_id together.

    Args: tracks: the columns of sql/features/split_input.sql, of grouped_split_input.sql for a grouped split, or of
        artists_split_input.sql or recordings_split_input.sql for one that leaves training rows out (split `unused`).
    Raises: InputError: too few rows to split.
    """
    if protocol.split == "grouped":
        parts = grouped_split(tracks["genre_id"].to_numpy(), tracks["group_id"].to_numpy())
        return _assignment(parts, tracks["track_id"].to_numpy(), tracks["group_id"].to_numpy())
    ids = tracks["track_id"].to_numpy()
    is_first = np.append(True, ids[1:] != ids[:-1])  # of the rows of a track, which follow one another
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
    """As `split_tracks`, of tracks that were appended: none joins val or test, so that figures stay comparable.

    They are training rows, in random order behind those of their base, but for those that would bring what a test row
    shows into training (split `unused`): where groups are kept whole, every track of a group, made of appended tracks
    alone, in which one has the artist or recording of a row that is none of training; for a probe, what it leaves out.

    Args: tracks: the columns of sql/features/split_input.sql or, of a protocol that keeps artists or recordings apart,
        of appended_split_input.sql. taken: the rows of each split of the base.
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
    Returns: by split, row numbers in the shuffled order in which scikit-learn leaves them: training in that order
        reproduces the study's fits.
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


def grouped_split(genre: np.ndarray, group: np.ndarray) -> dict[str, np.ndarray]:
    """70/15/15 with every group on one side, as near to stratified by genre as the groups allow.

    Groups of several rows go, the largest first, where they bring the genres' counts nearest to their shares (least
    growth of the sum over splits and genres of (count - wanted)^2 / wanted); single rows then fill what is missing.

    Args: genre, group: shape (n_rows,), in an order that does not depend on the file's.
    Returns: by split, row numbers in the order given.
    Raises: ProtocolError: a split would have no rows.
    Source: the greedy rule of sklearn.model_selection.StratifiedGroupKFold, for unequal shares and many groups.
    """
    labels, first, members, sizes = np.unique(group, return_index=True, return_inverse=True, return_counts=True)
    counts = sparse.csr_matrix((np.ones(len(genre)), (members, genre)), shape=(len(labels), int(genre.max()) + 1))
    wanted = np.outer(list(SHARES.values()), np.asarray(counts.sum(axis=0)).ravel())
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
        val, test = (max(0, round(wanted[at, code] - have[at, code])) for at in (1, 2))
        side[members[rows[:val]]] = 1
        side[members[rows[val : val + test]]] = 2
    parts = {name: np.flatnonzero(side[members] == at) for at, name in enumerate(SHARES)}
    _check_filled([name for name, rows in parts.items() if len(rows)], len(genre), len(labels))
    return parts


def without(assigned: pa.Table, track_id: pa.ChunkedArray) -> pa.Table:
    """A grouped split with some tracks left out (split `unused`). Args: assigned: as `split_tracks` returns it.

    Raises: ProtocolError: a split would have no rows.
    """
    is_left_out = pl.col("track_id").is_in(pl.Series(track_id).implode())
    frame = pl.DataFrame(assigned).with_columns(split=pl.when(is_left_out).then(pl.lit("unused")).otherwise("split"))
    _check_filled(frame["split"].unique().to_list(), frame.height, frame["group_id"].n_unique())
    return frame.with_columns(position=pl.int_range(pl.len()).over("split")).to_arrow()


def _check_filled(filled: Collection[str], n_rows: int, n_groups: int) -> None:
    if empty := [name for name in SHARES if name not in filled]:
        raise ProtocolError(
            f"cold_start is not possible: {n_rows} usable rows, in {n_groups} group(s) linked by artist or "
            f"recording, cannot be split 70/15/15; nothing is left for {' and '.join(empty)}. It takes more artists."
        )


def linked_artists(recording: np.ndarray, artist: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The artists that a chain of shared recordings links.

    Args: recording, artist: shape (n_pairs,), ids: each artist of each recording that has several.
    Returns: artist ids, each once, and the lowest artist id of each one's group.
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
    """Without the training rows that share an id with a test row, or without as many, whichever they are.

    Args: member, shared: shape (n_pairs,): a row, and an id of it.
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
