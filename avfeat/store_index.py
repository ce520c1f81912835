"""Which clip lies where: the indexes of all parts of a feature as one, what was done again in place of failures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from avfeat.errors import StoreError
from avfeat.store_layout import FAILED, INDEX_FILE, INDEX_SCHEMA, committed_parts, part_name

Stamp = tuple[int, int, int]
"""Tells one version of a file from another: device, inode, time of change."""

_MERGED = [
    *INDEX_SCHEMA,
    pa.field("part", pa.int32(), nullable=False),
    pa.field("attempt", pa.int32(), nullable=False),
    pa.field("row", pa.int64(), nullable=False),
]


def stamp(folder: Path) -> Stamp:
    """Return what tells this committed part from one that was made in its place later.

    Raises:
        FileNotFoundError: the part is gone.
    """
    facts = (folder / INDEX_FILE).stat()
    return facts.st_dev, facts.st_ino, facts.st_mtime_ns


def read_part_index(folder: Path) -> pa.Table:
    """Return the index of one committed part, as written.

    Raises:
        StoreError: it is missing or damaged.
    """
    try:
        with pq.ParquetFile(folder / INDEX_FILE) as file:
            table = file.read(use_threads=False)
        return table.cast(INDEX_SCHEMA) if table.schema != INDEX_SCHEMA else table
    except FileNotFoundError:
        raise StoreError(
            f"{folder} has no {INDEX_FILE}: find and drop damaged parts with avfeat check --repair."
        ) from None
    except (OSError, pa.ArrowException, ValueError) as error:
        raise StoreError(
            f"{folder / INDEX_FILE} cannot be read ({error}): find and drop damaged parts with avfeat check --repair."
        ) from error


@dataclass(frozen=True, eq=False)
class Index:
    """The state of a feature at one moment.

    table: one row for each clip, sorted by clip_id, columns of the parts' indexes and ``part``, ``attempt`` and ``row``
        (where the clip begins when the frames of all ``folders`` are laid end to end).
    folders: committed parts in the order of (part, attempt), with their ``stamps`` and the rows that each holds.
    slots: for each row of the table which of ``folders``.
    """

    table: pa.Table
    folders: list[Path]
    stamps: list[Stamp]
    folder_rows: list[int]
    slots: NDArray[np.int64]

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First row of each clip in its folder."""
        return self._numbers("start")

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Rows of each clip."""
        return self._numbers("length")

    @cached_property
    def failed(self) -> NDArray[np.bool_]:
        """Whether a clip has no rows because it failed."""
        flags: NDArray[np.bool_] = pc.equal(self.table["status"], FAILED).to_numpy()
        return flags

    @cached_property
    def position(self) -> dict[str, int]:
        """Clip id to row of the table."""
        return {clip_id: row for row, clip_id in enumerate(self.table["clip_id"].to_pylist())}

    def _numbers(self, column: str) -> NDArray[np.int64]:
        values: NDArray[np.int64] = self.table[column].to_numpy()
        return values


def read_index(feature: Path) -> Index:
    """Read and merge the indexes of all committed parts of a feature.

    Of several attempts at a clip the last one that gave rows stands, and if none did the last failure: so what was done
    again replaces a failure, and a retry that fails takes nothing away.

    Raises:
        StoreError: an index is missing or damaged, or one attempt holds a clip of another part.
    """
    parts = committed_parts(feature)
    folders = [feature / part_name(*each) for each in parts]
    stamps, tables = _read_all(folders)
    folder_rows = [_rows_of(table) for table in tables]
    bases = np.concatenate([[0], np.cumsum(folder_rows, dtype=np.int64)])
    columns: list[Any] = []
    for slot, (table, (part, attempt)) in enumerate(zip(tables, parts, strict=True)):
        own = [pa.array(np.full(len(table), number, np.int32)) for number in (part, attempt)]
        row = pc.add(table["start"], pa.scalar(int(bases[slot]), pa.int64()))
        columns.append(pa.table([*table.columns, *own, row], schema=pa.schema(_MERGED)))
    merged = pa.concat_tables(columns) if columns else pa.schema(_MERGED).empty_table()
    slots = np.repeat(np.arange(len(tables)), [len(table) for table in tables]).astype(np.int64)
    order = _standing(merged, any(attempt for _, attempt in parts))
    if order is not None:
        merged, slots = merged.take(pa.array(order)), slots[order]
    return Index(merged, folders, stamps, folder_rows, slots)


def _read_all(folders: Sequence[Path]) -> tuple[list[Stamp], list[pa.Table]]:
    def read(folder: Path) -> tuple[Stamp, pa.Table]:
        try:
            found = stamp(folder)
        except OSError as error:
            raise StoreError(
                f"{folder} cannot be read ({error.strerror}): find and drop damaged parts with avfeat check --repair."
            ) from error
        return found, read_part_index(folder)

    if len(folders) < 4:
        results: Iterable[tuple[Stamp, pa.Table]] = map(read, folders)
        pairs = list(results)
    else:
        with ThreadPoolExecutor(8) as pool:
            pairs = list(pool.map(read, folders))
    return [found for found, _ in pairs], [table for _, table in pairs]


def _rows_of(table: pa.Table) -> int:
    return int(pc.sum(table["length"]).as_py() or 0)


def _standing(merged: pa.Table, several: bool) -> NDArray[np.int64] | None:
    """Return which rows stand, in the order of clip ids; None when the table is so already."""
    ids = merged["clip_id"]
    if not several and pc.all(pc.less(ids.slice(0, max(len(ids) - 1, 0)), ids.slice(1))).as_py() is not False:
        return None
    keyed = pa.table(
        {
            "clip_id": ids,
            "good": pc.cast(pc.not_equal(merged["status"], FAILED), pa.int8()),
            "attempt": merged["attempt"],
            "row": pa.array(np.arange(len(merged))),
        }
    ).sort_by([("clip_id", "ascending"), ("good", "ascending"), ("attempt", "ascending")])
    ids = keyed["clip_id"]
    last = np.ones(len(keyed), bool)
    last[:-1] = pc.not_equal(ids.slice(0, max(len(ids) - 1, 0)), ids.slice(1)).to_numpy()
    order: NDArray[np.int64] = keyed["row"].to_numpy()[last]
    return order
