"""Rows out of shards: an uncompressed shard is a plain row file and is mapped; any other goes through zarr-python."""

from __future__ import annotations

import json
import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from avfeat.errors import StoreError
from avfeat.store_index import Stamp, stamp
from avfeat.store_layout import FRAMES, GROUP_FILE, Form, shard_name

_ABSENT = 2**64 - 1
_OPEN_SHARDS = 128
_REPAIR = "find and drop damaged parts with avfeat check --repair"


@dataclass(frozen=True)
class FramesFile:
    """What ``frames/zarr.json`` says: how many rows there are and how they lie."""

    rows: int
    form: Form


def read_frames_file(folder: Path) -> FramesFile:
    """Read the description of a part's frames.

    Raises:
        StoreError: it is missing, damaged, or describes an array that format 1 does not have.
    """
    path = folder / FRAMES / GROUP_FILE
    try:
        whole = json.loads(path.read_bytes())
        (codec,) = whole["codecs"]
        sharding = codec["configuration"]
        rows, width = whole["shape"]
        inner = {each["name"] for each in sharding["codecs"]}
        known = {frozenset({"bytes"}): "none", frozenset({"bytes", "zstd"}): "zstd"}
        form = Form(
            width,
            whole["data_type"],
            known[frozenset(inner)],
            sharding["chunk_shape"][0],
            whole["chunk_grid"]["configuration"]["chunk_shape"][0],
        )
        if codec["name"] != "sharding_indexed" or sharding["index_location"] != "end":
            raise ValueError("not sharded as format 1 says")
    except (OSError, KeyError, ValueError, TypeError, StoreError) as error:
        raise StoreError(f"{path} is missing or not that of format 1 ({error}): {_REPAIR}.") from error
    return FramesFile(rows, form)


def map_shard(path: Path, form: Form, rows: int) -> NDArray[Any] | None:
    """Return the first ``rows`` rows of one shard, mapped and read-only.

    Returns:
        None when the chunks are compressed or do not lie in order: such a shard needs a Zarr reader.

    Raises:
        StoreError: the shard is missing, cut short, its index is damaged, or chunks of these rows are not in it.
    """
    chunk_bytes = form.chunk_rows * form.row_bytes
    chunks = -(-rows // form.chunk_rows)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < form.index_bytes:
                raise StoreError(f"{path} has only {size} bytes: {_REPAIR}.")
            file.seek(size - form.index_bytes)
            tail = file.read()
            if google_crc32c.value(tail[:-4]) != int.from_bytes(tail[-4:], "little"):
                raise StoreError(f"{path} is cut short or its index is damaged: {_REPAIR}.")
            table = np.frombuffer(tail[:-4], "<u8").reshape(-1, 2)[:chunks]
            if (table[:, 0] == _ABSENT).any() or (table.sum(axis=1) > size - form.index_bytes).any():
                raise StoreError(f"{path} lacks chunks of its {rows} rows: {_REPAIR}.")
            in_order = np.arange(chunks, dtype=np.uint64) * np.uint64(chunk_bytes)
            if form.codec != "none" or not np.array_equal(table[:, 0], in_order):
                return None
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise StoreError(f"{path} is missing: {_REPAIR}.") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}.") from error
    return np.frombuffer(mapped, form.numpy, rows * form.width).reshape(rows, form.width)


@lru_cache(maxsize=16)
def _zarr_array(frames: Path, version: Stamp) -> Any:
    import zarr

    return zarr.open_array(str(frames), mode="r")


class Frames:
    """The frames of the committed parts of one feature; safe to use from several threads.

    Args:
        folders: the parts.
        stamps: their versions when the index was read: a part that was dropped and made anew meanwhile is refused,
            since the index would point at the wrong rows.
    """

    def __init__(self, folders: Sequence[Path], stamps: Sequence[Stamp]):
        self._folders = folders
        self._stamps = stamps
        self._files: dict[int, FramesFile] = {}
        self._shards: OrderedDict[tuple[int, int], NDArray[Any] | None] = OrderedDict()
        self._lock = threading.Lock()

    def file(self, slot: int) -> FramesFile:
        """Return the description of one part's frames, read once."""
        found = self._files.get(slot)
        if found is None:
            found = self._files[slot] = read_frames_file(self._folders[slot])
        return found

    def shard(self, slot: int, number: int) -> NDArray[Any] | None:
        """Return the mapped rows of a shard, None when it needs a Zarr reader; see ``map_shard``."""
        key = (slot, number)
        with self._lock:
            if key in self._shards:
                self._shards.move_to_end(key)
                return self._shards[key]
        folder = self._folders[slot]
        file = self.file(slot)
        rows = min(file.form.shard_rows, file.rows - number * file.form.shard_rows)
        mapped = map_shard(folder / FRAMES / shard_name(number), file.form, rows)
        self._check_version(slot)
        with self._lock:
            self._shards[key] = mapped
            if len(self._shards) > _OPEN_SHARDS:
                self._shards.popitem(last=False)
        return mapped

    def view(self, slot: int, start: int, length: int) -> NDArray[Any]:
        """Return rows [length, width], read-only: mapped where they lie in one shard, else copied."""
        form = self.file(slot).form
        first, offset = divmod(start, form.shard_rows)
        if length and offset + length <= form.shard_rows:
            mapped = self.shard(slot, first)
            if mapped is not None and offset + length <= len(mapped):
                return mapped[offset : offset + length]
        rows = np.empty((length, form.width), form.numpy)
        self.copy(slot, start, rows)
        rows.flags.writeable = False
        return rows

    def copy(self, slot: int, start: int, out: NDArray[Any]) -> None:
        """Copy rows from ``start`` on into ``out`` [length, width].

        Raises:
            StoreError: a shard is missing or damaged, or the part holds fewer rows.
        """
        file = self.file(slot)
        if start + len(out) > file.rows:
            raise StoreError(f"{self._folders[slot]} holds {file.rows} rows, its index points beyond: {_REPAIR}.")
        done = 0
        while done < len(out):
            number, offset = divmod(start + done, file.form.shard_rows)
            count = min(len(out) - done, file.form.shard_rows - offset)
            mapped = self.shard(slot, number)
            target = out[done : done + count]
            if mapped is None:
                target[...] = self._through_zarr(slot, start + done, count)
            else:
                target[...] = mapped[offset : offset + count]
            done += count

    def _through_zarr(self, slot: int, start: int, count: int) -> NDArray[Any]:
        frames = self._folders[slot] / FRAMES
        try:
            rows: NDArray[Any] = _zarr_array(frames, self._stamps[slot])[start : start + count]
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise StoreError(f"{frames} cannot be read ({type(error).__name__}: {error}): {_REPAIR}.") from error
        return rows

    def _check_version(self, slot: int) -> None:
        folder = self._folders[slot]
        try:
            same = stamp(folder) == self._stamps[slot]
        except FileNotFoundError:
            same = False
        if not same:
            raise StoreError(f"{folder} was replaced since its index was read: open the store again.")
