"""One part on its way to disk: rows into shards, facts into the index, and at the end one rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from avfeat.errors import ClipError, NotFiniteError, StoreError
from avfeat.store_disk import commit_folder, disk_errors, private_beside, sync, write_file
from avfeat.store_layout import (
    DONE,
    FACTS,
    FAILED,
    FRAMES,
    GROUP_FILE,
    INDEX_FILE,
    INDEX_SCHEMA,
    TRUNCATED,
    Form,
    first_not_finite,
    group_json,
    part_name,
)


class PartWriter:
    """Writes one attempt of one part into a private folder, and commits it by one rename.

    A context manager; leaving it without ``commit`` removes all that was written. Rows are kept in memory until a shard
    is full, so it needs the memory of about three shards. Only one thread may use it.

    Args:
        feature: the feature's folder.
        form: how its frames lie on disk.
        first_seconds: the time of the first row where a clip's facts do not say otherwise.
        part, attempt: attempt 0 holds every clip of the part, later ones only clips that are done again.
        clip_ids: the part's clips.
    """

    def __init__(
        self, feature: Path, form: Form, first_seconds: float, part: int, attempt: int, clip_ids: Sequence[str]
    ):
        self.part, self.attempt = part, attempt
        self._form = form
        self._first_seconds = first_seconds
        self._expected = frozenset(clip_ids)
        self._final = feature / part_name(part, attempt)
        self._private = private_beside(self._final)
        self._index: dict[str, list[Any]] = {name: [] for name in INDEX_SCHEMA.names}
        self._seen: set[str] = set()
        self._rows = 0
        self._waiting = np.empty((0, form.width), form.numpy)
        self._filled = 0
        self._array: Any = None

    def __enter__(self) -> PartWriter:
        with disk_errors(self._final):
            self._private.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._private, ignore_errors=True)

    def add(self, clip_id: str, rows: NDArray[Any], facts: Mapping[str, object]) -> None:
        """Write one clip.

        Args:
            rows: [length, width] of any floating type; a clip may have no rows.
            facts: columns of the index: ``status`` (done or truncated), ``detail``, ``first_seconds`` and so on.

        Raises:
            NotFiniteError: a value is not finite, or more than the stored type holds; nothing of the clip was written.
            StoreError: a row of another width, a clip of another part or that is there already, or the disk refuses.
        """
        status = facts.get("status", DONE)
        if status not in (DONE, TRUNCATED):
            raise StoreError(f"{clip_id}: rows have status {DONE} or {TRUNCATED}, not {status!r}.")
        if rows.ndim != 2 or rows.shape[1] != self._form.width:
            raise StoreError(
                f"{clip_id}: {self._final} takes rows of [length, {self._form.width}], not an array of {rows.shape}."
            )
        self._check_clip(clip_id, facts)
        stored = self._as_stored(clip_id, rows)
        self._note(clip_id, facts, len(stored), DONE if status == DONE else TRUNCATED, google_crc32c.value(stored))
        with disk_errors(self._final):
            os.utime(self._private)  # a sign of life for whoever sweeps
            self._store(stored)

    def fail(self, clip_id: str, error: ClipError, facts: Mapping[str, object]) -> None:
        """Write down that a clip has no rows, and why.

        Raises:
            StoreError: a clip of another part, or that is there already.
        """
        self._check_clip(clip_id, facts)
        self._note(clip_id, dict(facts) | {"detail": str(error)}, 0, FAILED, 0, error.kind)

    def commit(self) -> bool:
        """Make the part visible, whole and safely on disk.

        Returns:
            False when another writer's copy of this attempt was there first: it stands, ours is gone.

        Raises:
            StoreError: clips are missing, the disk refuses, or the private folder was swept away meanwhile.
        """
        missing = sorted(self._expected - self._seen)
        if (missing and self.attempt == 0) or not self._seen:
            raise StoreError(f"{self._final} lacks {len(missing)} of its clips, the first is {missing[0]}.")
        with disk_errors(self._final):
            if self._filled or self._array is None:
                self._flush()
            self._finish_files()
            return commit_folder(self._private, self._final)

    def _check_clip(self, clip_id: str, facts: Mapping[str, object]) -> None:
        unknown = sorted(facts.keys() - FACTS)
        if unknown:
            raise StoreError(f"{clip_id}: the index has no column {', '.join(unknown)}; it has {sorted(FACTS)}.")
        if clip_id not in self._expected:
            raise StoreError(f"{clip_id} is not a clip of {self._final}.")
        if clip_id in self._seen:
            raise StoreError(f"{clip_id} was written to {self._final} already.")

    def _as_stored(self, clip_id: str, rows: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(rows, self._form.numpy)
        at = first_not_finite(stored)
        if at is None:
            return stored
        if not np.isfinite(rows[at]).all():
            raise NotFiniteError(f"{clip_id}: row {at} of {len(rows)} holds a value that is not finite.")
        largest = np.abs(rows[at]).max()
        raise NotFiniteError(
            f"{clip_id}: row {at} of {len(rows)} holds {largest:g}, more than {self._form.dtype} can hold "
            f"({np.finfo(self._form.numpy).max:g}): extract this feature with --dtype float32 into another store."
        )

    def _note(
        self, clip_id: str, facts: Mapping[str, object], length: int, status: str, crc32c: int, error: str | None = None
    ) -> None:
        row: dict[str, object] = {"first_seconds": self._first_seconds, **facts}
        row |= {"clip_id": clip_id, "start": self._rows, "length": length}
        row |= {"status": status, "error": error, "crc32c": crc32c, "detail": row.get("detail") or None}
        for name, values in self._index.items():
            values.append(row.get(name))
        self._seen.add(clip_id)
        self._rows += length

    def _store(self, stored: NDArray[Any]) -> None:
        while len(stored):
            if not len(self._waiting):
                self._waiting = np.empty((self._form.shard_rows, self._form.width), self._form.numpy)
            taken = min(len(stored), self._form.shard_rows - self._filled)
            self._waiting[self._filled : self._filled + taken] = stored[:taken]
            self._filled += taken
            stored = stored[taken:]
            if self._filled == self._form.shard_rows:
                self._flush()

    def _flush(self) -> None:
        """Write what waits as the next shard, whole; the first call makes the array, even of no rows."""
        if self._array is None:
            self._array = _new_array(self._private / FRAMES, self._form)
        if self._filled:
            start = self._array.shape[0]
            self._array.resize((start + self._filled, self._form.width))
            self._array[start : start + self._filled] = self._waiting[: self._filled]
            self._filled = 0

    def _finish_files(self) -> None:
        """Write index and attributes last, and bring every file that must be there to disk, then the folders.

        The files are those that the row count calls for, not those that a listing shows: what was swept away while this
        process stood still is missed here, before the part can be seen.
        """
        frames = self._private / FRAMES
        for name, start, end in self._form.shards(self._rows):
            size = (frames / name).stat().st_size
            if self._form.codec == "none" and size != self._form.shard_bytes(end - start):
                raise StoreError(f"{frames / name} has {size} bytes, not {self._form.shard_bytes(end - start)}.")
            sync(frames / name)
        sync(frames / GROUP_FILE)
        sync(frames)
        index = pa.BufferOutputStream()
        pq.write_table(pa.table(self._index, schema=INDEX_SCHEMA), index, compression="zstd")
        content = index.getvalue().to_pybytes()
        write_file(self._private / INDEX_FILE, content)
        facts = {
            "kind": "part",
            "part": self.part,
            "attempt": self.attempt,
            "clips": len(self._seen),
            "rows": self._rows,
            "index_crc32c": google_crc32c.value(content),
        }
        write_file(self._private / GROUP_FILE, group_json(facts))
        sync(self._private)


def _new_array(path: Path, form: Form) -> Any:
    import zarr
    from zarr.codecs import ZstdCodec

    return zarr.create_array(
        str(path),
        shape=(0, form.width),
        dtype=form.numpy,
        chunks=(form.chunk_rows, form.width),
        shards=(form.shard_rows, form.width),
        compressors=ZstdCodec(level=1) if form.codec == "zstd" else None,
        filters=None,
        fill_value=0,
        dimension_names=("row", "column"),
        chunk_key_encoding={"name": "default", "separator": "."},
        config={"write_empty_chunks": True},
    )
