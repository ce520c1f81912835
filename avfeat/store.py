"""The store: frames of features on disk. This is its public face, for reading and for starting to write.

``open_store(path)[manifest][feature]`` gives a Feature; format and files are described in docs/format.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from avfeat.errors import StoreError
from avfeat.manifest import Manifest
from avfeat.plan import Part, cut
from avfeat.store_frames import Frames
from avfeat.store_index import Index, read_index
from avfeat.store_layout import (
    GROUP_FILE,
    MANIFEST_FILE,
    Form,
    committed_parts,
    disk_errors,
    read_group,
)
from avfeat.store_write import PartWriter, create, ensure_feature, ensure_group, write_feature

__all__ = ["Feature", "Group", "PartWriter", "Store", "create", "open_store", "write_feature"]

_THREADS_FROM_BYTES = 16 << 20


def open_store(path: Path | str) -> Store:
    """Open a store for reading.

    Raises:
        StoreError: there is no store, or it has another format.
    """
    return Store(Path(path))


class Store:
    """All manifests of one store.

    Raises:
        StoreError: the folder is no store, or has another format.
    """

    def __init__(self, path: Path):
        self.path = path
        read_group(path, "store")

    def keys(self) -> list[str]:
        """Return the keys of the manifests, ``<name>-<digest8>``, sorted."""
        return _subfolders(self.path)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __getitem__(self, key: str) -> Group:
        """Return the group of a manifest, by its key or, where only one manifest has it, by its name.

        Raises:
            StoreError: none or several fit; the message lists those that there are.
        """
        keys = self.keys()
        fitting = [key] if key in keys else [each for each in keys if each.rpartition("-")[0] == key]
        if len(fitting) == 1:
            return Group(self.path / fitting[0])
        if fitting:
            raise StoreError(f"{self.path} has several manifests named {key}: choose one of {', '.join(fitting)}.")
        raise StoreError(f"{self.path} has no manifest {key!r}; it has {', '.join(keys) or 'none yet'}.")


class Group:
    """One manifest of a store with its cut into parts, and the features of its clips.

    Raises:
        StoreError: the folder is no group of a store.
    """

    def __init__(self, path: Path):
        self.path = path
        self.attributes: Mapping[str, Any] = read_group(path, "manifest")

    @classmethod
    def ensure(cls, store: Path, manifest: Manifest, part_clips: int | None = None) -> Group:
        """Make the group of a manifest, and the store, where they are not there yet; see ``ensure_group``.

        Raises:
            StoreError: the group stands with another cut, or cannot be written.
        """
        return cls(ensure_group(Path(store), manifest, part_clips))

    @property
    def key(self) -> str:
        """``<name>-<digest8>``."""
        return self.path.name

    @property
    def part_clips(self) -> int:
        """Clips per part, fixed by whoever made the group."""
        return int(self.attributes["part_clips"])

    def manifest(self) -> Manifest:
        """Return the manifest, read once."""
        return self._manifest

    @cached_property
    def _manifest(self) -> Manifest:
        return Manifest.read(self.path / MANIFEST_FILE)

    @cached_property
    def parts(self) -> list[Part]:
        """The manifest cut into parts."""
        return cut(self._manifest.clip_ids, self.part_clips)

    def features(self) -> list[str]:
        """Return the names of the features, sorted."""
        return _subfolders(self.path)

    def __iter__(self) -> Iterator[str]:
        return iter(self.features())

    def __getitem__(self, name: str) -> Feature:
        """Return a feature.

        Raises:
            StoreError: there is none of this name; the message lists those that there are.
        """
        known = self.features()
        if name not in known:
            raise StoreError(f"{self.key} has no feature {name!r}; it has {', '.join(known) or 'none yet'}.")
        return Feature(self, name)

    def ensure_feature(
        self,
        name: str,
        attributes: Mapping[str, Any],
        width: int,
        dtype: str = "float16",
        codec: str = "none",
        shard_rows: int | None = None,
    ) -> Feature:
        """Make a feature with its attributes, or find it; see ``store_write.ensure_feature``.

        Args:
            attributes: plain data with ``rate_hz``, ``first_seconds`` and ``identity``, all that decides the numbers;
                the rest (``made_with``, card, licence) is kept from the first writer and not compared.
            shard_rows: smaller shards than the format's, for tests and tiny stores.

        Raises:
            StoreError: the feature stands with other settings; the message names what differs.
        """
        ensure_feature(self.path, name, attributes, Form.of(width, dtype, codec, shard_rows))
        return Feature(self, name)


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
        facts = self.attributes
        self.form = Form(facts["width"], facts["dtype"], facts["codec"], facts["chunk_rows"], facts["shard_rows"])

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
            self._refuse([clip_id])
        assert row is not None
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
            self._refuse([clip_ids[int(at)] for at in np.flatnonzero(bad)])
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
        """Return for each part the clips whose last word is a failure, as it is on disk now."""
        self.refresh()
        index, _ = self._state
        failed = index.table.filter(pa.array(index.failed)).select(["part", "clip_id"])
        found: dict[int, list[str]] = {}
        for part, clip_id in zip(failed["part"].to_pylist(), failed["clip_id"].to_pylist(), strict=True):
            found.setdefault(part, []).append(clip_id)
        return {part: tuple(clip_ids) for part, clip_ids in sorted(found.items())}

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

    def _refuse(self, clip_ids: Sequence[str]) -> None:
        """Raise for clips without rows; names five."""
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
        raise StoreError(f"{self.name} has no rows for {'; '.join(lines)}{more}.")


def _subfolders(path: Path) -> list[str]:
    with disk_errors(path, "read"):
        return sorted(
            entry.name
            for entry in os.scandir(path)
            if not entry.name.startswith(".") and entry.is_dir() and Path(entry.path, GROUP_FILE).exists()
        )


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

    threads = min(4, len(os.sched_getaffinity(0)), len(runs))
    if threads < 2 or out.nbytes < _THREADS_FROM_BYTES:
        copy(runs)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(copy, [runs[k::threads] for k in range(threads)]))
