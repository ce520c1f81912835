"""Reading one feature: a clip, many clips, or all of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from avfeat.errors import StoreError
from avfeat.plan import Part
from avfeat.store_frames import Frames
from avfeat.store_index import Index, read_index
from avfeat.store_layout import Form, committed_parts, read_group
from avfeat.store_part import PartWriter

if TYPE_CHECKING:
    from avfeat.store import Group

_THREADS_FROM_BYTES = 16 << 20


class Feature:
    """The frames of one feature for the clips of one manifest.

    Reading sees the parts that were committed when it first looked; ``refresh`` looks again. Arrays that ``clip``
    returns are read-only and mapped from disk. Safe to read from several threads.
    """

    def __init__(self, group: Group, name: str):
        self.group = group
        self.name = name
        self.path = group.path / name
        self.attributes: Mapping[str, Any] = read_group(self.path, "feature")
        self.form = Form.read(self.attributes)

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return self.form.width

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a stored number."""
        return self.form.numpy

    @property
    def rate_hz(self) -> float:
        """Rows per second."""
        return float(self.attributes["rate_hz"])

    @property
    def first_seconds(self) -> float:
        """The time of row 0, unless a clip's index row says otherwise."""
        return float(self.attributes["first_seconds"])

    @property
    def part_clips(self) -> int:
        """Clips per part."""
        return self.group.part_clips

    @cached_property
    def _state(self) -> tuple[Index, Frames]:
        index = read_index(self.path)
        return index, Frames(index.folders, index.stamps)

    def refresh(self) -> None:
        """Forget what was read: the next look sees what is committed by then."""
        self.__dict__.pop("_state", None)

    def index(self) -> pa.Table:
        """Return one row for each clip of the committed parts, sorted by clip_id.

        Columns as in docs/format.md, and ``part``, ``attempt`` and ``row`` (where the clip begins in ``to_dask``). Of
        several attempts at a clip the last one that gave rows stands, and if none did the last failure.

        Raises:
            StoreError: the index of a part is missing or damaged.
        """
        return self._state[0].table

    def clip(self, clip_id: str) -> NDArray[Any]:
        """Return the rows of one clip, [length, width] in the stored type, read-only: copy it before changing it.

        Raises:
            StoreError: the clip failed (the message says why), is not extracted, or its shard is damaged.
        """
        index, frames = self._state
        row = index.position.get(clip_id)
        if row is None or index.failed[row]:
            raise self._refusal([clip_id])
        return frames.view(int(index.slots[row]), int(index.starts[row]), int(index.lengths[row]))

    def frames(
        self, clip_ids: Sequence[str], out: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the rows of many clips end to end, in the order asked.

        Args:
            clip_ids: any clips in any order, repeats allowed.
            out: a buffer [at least N, width] to fill, of the stored type or of one that holds it (float32); reuse it,
                since fresh memory costs more than the reading.

        Returns:
            frames [N, width], the beginning of ``out`` when it was given, and offsets int64 [clips + 1]: clip i has
            rows offsets[i] to offsets[i + 1], the end not included.

        Raises:
            StoreError: a clip failed or is not extracted (names five), ``out`` does not fit, or a shard is damaged.
        """
        index, frames = self._state
        position = index.position
        rows = np.fromiter((position.get(clip_id, -1) for clip_id in clip_ids), np.int64, len(clip_ids))
        bad = (rows < 0) | (index.failed[rows] if len(index.failed) else True)
        if bad.any():
            raise self._refusal([clip_ids[int(at)] for at in np.flatnonzero(bad)])
        lengths = index.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        target = self._target(out, int(offsets[-1]))
        _copy_runs(frames, index.slots[rows], index.starts[rows], offsets, target, self.form.shard_rows)
        return target, offsets

    def to_dask(self) -> Any:
        """Return a dask array [all rows, width] over the committed parts in order, one chunk for each shard.

        Column ``row`` of ``index`` says where a clip begins. Rows that a later attempt replaced are in it too.
        """
        from dask.array import core
        from dask.delayed import delayed

        arrays: Any = core

        index, _ = self._state
        blocks = []
        read = delayed(_read_rows, pure=True)
        for folder, version, rows in zip(index.folders, index.stamps, index.folder_rows, strict=True):
            for _, start, end in self.form.shards(rows):
                block = read(folder, version, start, end)
                blocks.append(arrays.from_delayed(block, (end - start, self.width), self.dtype))
        if not blocks:
            return arrays.from_array(np.empty((0, self.width), self.dtype))
        return arrays.concatenate(blocks, axis=0)

    def committed(self) -> dict[int, list[int]]:
        """Return the attempts of each committed part as they are on disk now."""
        found: dict[int, list[int]] = {}
        for part, attempt in committed_parts(self.path):
            found.setdefault(part, []).append(attempt)
        return found

    def missing_parts(self) -> list[Part]:
        """Return the parts that are not committed, as it is on disk now."""
        whole = {part for part, attempts in self.committed().items() if 0 in attempts}
        return [part for part in self.group.parts if part.number not in whole]

    def failed_clips(self) -> dict[int, tuple[str, ...]]:
        """Return for each committed part the clips whose last word is a failure, as it is on disk now."""
        self.refresh()
        index, _ = self._state
        whole = {part for part, attempts in self.committed().items() if 0 in attempts}
        failed = index.table.filter(pa.array(index.failed)).select(["part", "clip_id"])
        found: dict[int, list[str]] = {}
        for part, clip_id in zip(failed["part"].to_pylist(), failed["clip_id"].to_pylist(), strict=True):
            found.setdefault(part, []).append(clip_id)
        return {part: tuple(clip_ids) for part, clip_ids in sorted(found.items()) if part in whole}

    def next_attempt(self, part: int) -> int:
        """Return the number of the attempt to write next: 0 for a part that is not committed."""
        attempts = self.committed().get(part, [])
        return max(attempts) + 1 if 0 in attempts else 0

    def part_writer(self, part: int, attempt: int = 0) -> PartWriter:
        """Return a context manager that writes one attempt of one part; see ``PartWriter``."""
        clip_ids = self.group.parts[part].clip_ids
        return PartWriter(self.path, self.form, self.first_seconds, part, attempt, clip_ids)

    def _target(self, out: NDArray[Any] | None, rows: int) -> NDArray[Any]:
        if out is None:
            return np.empty((rows, self.width), self.dtype)
        if out.ndim != 2 or out.shape[1] != self.width or len(out) < rows or not np.can_cast(self.dtype, out.dtype):
            raise StoreError(
                f"{self.name}: the buffer is {out.dtype} {out.shape}, "
                f"needed is {self.dtype} or wider, [at least {rows}, {self.width}]."
            )
        return out[:rows]

    def _refusal(self, clip_ids: Sequence[str]) -> StoreError:
        """Return the error of clips without rows; names five."""
        index, _ = self._state
        lines = []
        for clip_id in clip_ids[:5]:
            row = index.position.get(clip_id)
            if row is not None:
                lines.append(f"{clip_id} failed ({index.table['error'][row]}: {index.table['detail'][row]})")
            elif clip_id in self.group.manifest().clip_ids:
                lines.append(f"{clip_id} is not extracted yet (run avfeat extract)")
            else:
                lines.append(f"{clip_id} is not a clip of {self.group.key}")
        more = f"; and {len(clip_ids) - 5} more" if len(clip_ids) > 5 else ""
        return StoreError(f"{self.name} has no rows for {'; '.join(lines)}{more}.")


def _read_rows(folder: Path, version: tuple[int, int, int], start: int, end: int) -> NDArray[Any]:
    return Frames([folder], [version]).view(0, start, end - start)


def _copy_runs(
    frames: Frames,
    slots: NDArray[np.int64],
    starts: NDArray[np.int64],
    offsets: NDArray[np.int64],
    out: NDArray[Any],
    shard_rows: int,
) -> None:
    """Copy clips to ``out``: those that lie end to end on disk as one, in the order of the disk, by several threads."""
    lengths = np.diff(offsets)
    some = np.flatnonzero(lengths)
    if not len(some):
        return
    slots, starts, lengths, targets = slots[some], starts[some], lengths[some], offsets[:-1][some]
    ends = starts + lengths
    fresh = np.ones(len(some), bool)
    fresh[1:] = (slots[1:] != slots[:-1]) | (starts[1:] != ends[:-1])
    first = np.flatnonzero(fresh)
    last = np.append(first[1:], len(some)) - 1
    runs = []
    for slot, start, end, target in zip(
        slots[first].tolist(), starts[first].tolist(), ends[last].tolist(), targets[first].tolist(), strict=True
    ):
        while start < end:
            stop = min(end, (start // shard_rows + 1) * shard_rows)
            runs.append((slot, start, target, target + stop - start))
            start, target = stop, target + stop - start
    runs.sort()

    def copy(mine: Sequence[tuple[int, int, int, int]]) -> None:
        for slot, start, target, target_end in mine:
            frames.copy(slot, start, out[target:target_end])

    threads = min(4, os.cpu_count() or 1, len(runs))
    if threads < 2 or out.nbytes < _THREADS_FROM_BYTES:
        copy(runs)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(copy, [runs[k::threads] for k in range(threads)]))
