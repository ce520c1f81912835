"""The rows of stored features, joined by time, read into memory or into a file on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfeat.store import Feature
from probes.on_disk import RowFile

Joined = Sequence[Sequence[NDArray[np.int64]]]
"""For each clip and each feature the numbers of its rows that stand side by side; see ``align.join``."""


def lengths(joined: Joined) -> NDArray[np.int64]:
    """Return how many rows each clip has once its features are joined."""
    return np.array([len(numbers[0]) for numbers in joined], np.int64)


def frames_bytes(features: Sequence[Feature], joined: Joined) -> int:
    """Return the bytes of all rows."""
    return int(lengths(joined).sum()) * sum(feature.width for feature in features) * joined_dtype(features).itemsize


def joined_dtype(features: Sequence[Feature]) -> np.dtype[Any]:
    """Return the type of a number: float32 when it is that of any feature."""
    return np.result_type(*(feature.dtype for feature in features))


def read_to_memory(
    features: Sequence[Feature], clip_ids: Sequence[str], joined: Joined
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return frames [rows, all widths] and offsets."""
    if len(features) == 1:
        return features[0].frames(clip_ids)
    offsets = np.concatenate([[0], lengths(joined).cumsum()])
    frames = np.empty((int(offsets[-1]), sum(feature.width for feature in features)), joined_dtype(features))
    column = 0
    for k, feature in enumerate(features):
        own, starts = feature.frames(clip_ids)
        numbers = np.concatenate([start + each[k] for start, each in zip(starts, joined, strict=False)])
        frames[:, column : column + feature.width] = own[numbers]
        column += feature.width
    return frames, offsets


def read_to_disk(
    features: Sequence[Feature], clip_ids: Sequence[str], joined: Joined, memory: int
) -> tuple[RowFile, NDArray[np.int64]]:
    """Return the same rows in a file, and offsets; at most ``memory`` bytes of them are held, or a shard if it is more.

    Each shard of each feature is one task of dask: it is mapped, its rows of these clips are copied to their places.
    """
    from dask import base
    from dask.delayed import delayed

    dask: Any = base  # its functions have no types
    offsets = np.concatenate([[0], lengths(joined).cumsum()])
    file = RowFile(int(offsets[-1]), sum(feature.width for feature in features), joined_dtype(features), memory)
    column = 0
    for k, feature in enumerate(features):
        columns = slice(column, column + feature.width)
        column = columns.stop
        index = feature.index()
        position = {clip_id: row for row, clip_id in enumerate(index["clip_id"].to_pylist())}
        starts = index["row"].to_numpy()[[position[clip_id] for clip_id in clip_ids]]
        wanted = np.concatenate([start + numbers[k] for start, numbers in zip(starts, joined, strict=True)])
        stored = feature.to_dask()
        edges = np.cumsum([0, *stored.chunks[0]])
        order = np.argsort(wanted, kind="stable")
        cuts = np.searchsorted(wanted[order], edges)
        copy = delayed(_copy)
        tasks = [
            copy(block, wanted[order[a:b]] - edge, order[a:b], columns, file)
            for block, edge, a, b in zip(stored.to_delayed().ravel(), edges, cuts, cuts[1:], strict=False)
            if b > a
        ]
        largest = max(stored.chunks[0]) * feature.width * feature.dtype.itemsize
        workers = int(np.clip(memory // (4 * largest), 1, 4))
        dask.compute(tasks, scheduler="threads", num_workers=workers, optimize_graph=False)
    return file, offsets


def _copy(
    block: NDArray[Any], rows: NDArray[np.int64], places: NDArray[np.int64], columns: slice, file: RowFile
) -> None:
    """Copy ``rows`` of a shard to their ``places`` in the file, which follow each other but from clip to clip."""
    target = file.frames.numpy()
    clips = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1)
    done = 0
    for part in file.walk([slice(int(clip[0]), int(clip[-1]) + 1) for clip in clips]):
        start, done = done, done + part.stop - part.start
        target[part, columns] = block[rows[start:done]]
