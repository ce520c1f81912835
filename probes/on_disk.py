"""Frames that are larger than the memory they may take: a file of rows, mapped, of which windows are looked at in turn.

The file has no name, so that it is gone with the process however that ends; ``TMPDIR`` says on which disk it is. What
is read stays in the system's page cache as long as there is room, but it is not kept in the process: each window is
let go when the next one begins, and the window after it is asked for, so that the disk reads while we compute.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch

from avfeat.errors import ProbeError

Piece = TypeVar("Piece")

WINDOWS = 32
"""The memory that is allowed holds so many windows: those of 8 cores at once are a quarter of it."""


class RowFile:
    """Rows [rows, width] in a file, all zeros at first; ``frames`` is the tensor of them, to write to and to read from.

    Args:
        memory: bytes that the process may hold of it.

    Raises:
        ProbeError: there is no room on the disk.
    """

    def __init__(self, rows: int, width: int, dtype: np.dtype[Any], memory: int):
        self.row_bytes = width * dtype.itemsize
        self.window_rows = max(1, memory // WINDOWS // self.row_bytes)
        size = rows * self.row_bytes
        try:
            with tempfile.TemporaryFile(prefix="probes-") as file:
                # Reserved now: a disk that fills up later would end the process without a word.
                os.posix_fallocate(file.fileno(), 0, size) if hasattr(os, "posix_fallocate") else file.truncate(size)
                self._map = mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise ProbeError(
                f"Frames of {size / 1e9:.2f} GB do not fit in {tempfile.gettempdir()} ({error.strerror}): "
                "set TMPDIR to a folder on a larger disk, or allow more --memory."
            ) from error
        self.frames = torch.from_numpy(np.frombuffer(self._map, dtype).reshape(rows, width))

    def windows(self, pieces: Sequence[Piece], rows: Callable[[Piece], slice]) -> Iterator[Sequence[Piece]]:
        """Yield ``pieces`` in groups of at most a window's rows, each held until the next step."""
        groups: list[list[Piece]] = [[]]
        count = 0
        for piece in pieces:
            own = rows(piece)
            count += own.stop - own.start
            if groups[-1] and count > self.window_rows:
                groups.append([])
                count = own.stop - own.start
            groups[-1].append(piece)
        for group, following in pairwise([*groups, []]):
            self._advise(mmap.MADV_WILLNEED, map(rows, following))
            yield group
            self._advise(mmap.MADV_DONTNEED, map(rows, group))

    def let_go(self, rows: slice) -> None:
        """Keep these rows no longer in the process; they stay in the file."""
        self._advise(mmap.MADV_DONTNEED, [rows])

    def _advise(self, advice: int, parts: Iterator[slice] | Sequence[slice]) -> None:
        """Say for runs of rows that follow each other, in whole pages, what is wanted of them."""
        first = last = 0
        for rows in [*parts, slice(0, 0)]:
            start, stop = rows.start * self.row_bytes, rows.stop * self.row_bytes
            if start == last and stop > start:
                last = stop
                continue
            if last > first:
                begin = first - first % mmap.PAGESIZE
                self._map.madvise(advice, begin, last - begin)
            first, last = start, stop
