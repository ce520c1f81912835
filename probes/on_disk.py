"""Frames that are larger than the memory they may take: a file of rows, mapped, of which windows are looked at in turn.

The file has no name, so that it is gone with the process however that ends; ``TMPDIR`` says on which disk it is. What
is read stays in the system's page cache as long as there is room, but it is not kept in the process: each window is
let go when the next one begins, and the window after it is asked for, so that the disk reads while we compute. The
system's own guesses of what is needed next are turned off, for they would map far more than the rows that are read.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from avfeat.errors import ProbeError

Piece = TypeVar("Piece")

WINDOWS = 32
"""The memory that is allowed holds so many windows: those of 8 cores at once are a quarter of it."""

AROUND = 64 << 10
"""Linux maps a page together with those in the same 64 kB, as far as they are cached; they are let go together."""


def as_one(piece: Any) -> list[slice]:
    """Return the rows of what has a ``start`` and a ``stop``."""
    return [slice(piece.start, piece.stop)]


class RowFile:
    """Rows [rows, width] in a file, all zeros at first; ``frames`` is the tensor of them, to write to and to read from.

    Args:
        memory: bytes that the process may hold of it.

    Raises:
        ProbeError: there is no room on the disk.
    """

    def __init__(self, rows: int, width: int, dtype: np.dtype[Any], memory: int):
        self.memory = memory
        self.row_bytes = width * dtype.itemsize
        self.window_rows = max(1, memory // WINDOWS // self.row_bytes)
        size = rows * self.row_bytes
        try:
            self._file = tempfile.TemporaryFile(prefix="probes-")  # noqa: SIM115 -- open as long as we are
            self.descriptor = self._file.fileno()
            # Reserved now: a disk that fills up later would end the process without a word.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self.descriptor, 0, size)
            else:
                self._file.truncate(size)
            self._map = mmap.mmap(self.descriptor, size)
            self._map.madvise(mmap.MADV_RANDOM)
        except OSError as error:
            raise ProbeError(
                f"Frames of {size / 1e9:.2f} GB do not fit in {tempfile.gettempdir()} ({error.strerror}): "
                "set TMPDIR to a folder on a larger disk, or allow more --memory."
            ) from error
        self.frames = torch.from_numpy(np.frombuffer(self._map, dtype).reshape(rows, width))

    def windows(
        self, pieces: Sequence[Piece], rows: Callable[[Piece], Sequence[slice]] = as_one
    ) -> Iterator[Sequence[Piece]]:
        """Yield ``pieces`` in groups of at most a window's rows, each held until the next step."""
        groups: list[list[Piece]] = [[]]
        count = 0
        for piece in pieces:
            own = sum(each.stop - each.start for each in rows(piece))
            count += own
            if groups[-1] and count > self.window_rows:
                groups.append([])
                count = own
            groups[-1].append(piece)
        for group, following in pairwise([[], *groups, []]):
            self._advise(mmap.MADV_WILLNEED, chain.from_iterable(map(rows, following)))
            if group:
                yield group
                self._advise(mmap.MADV_DONTNEED, chain.from_iterable(map(rows, group)))

    def walk(self, runs: Sequence[slice]) -> Iterator[slice]:
        """Yield runs of rows, the long ones in parts, each held until the next window begins."""
        step = self.window_rows
        parts = [slice(at, min(run.stop, at + step)) for run in runs for at in range(run.start, run.stop, step)]
        return chain.from_iterable(self.windows(parts))

    def begin(self, frames: Tensor) -> int:
        """Return the byte of the file at which ``frames`` begin, which are some or all of its rows."""
        return frames.data_ptr() - self.frames.data_ptr()

    def let_go(self, rows: slice) -> None:
        """Keep these rows no longer in the process; they stay in the file."""
        self._advise(mmap.MADV_DONTNEED, [rows])

    def _advise(self, advice: int, parts: Iterable[slice]) -> None:
        """Say for runs of rows that follow each other, and what was mapped with them, what is wanted of them."""
        address = self.frames.data_ptr()
        first = last = 0
        for rows in [*parts, slice(0, 0)]:
            start, stop = rows.start * self.row_bytes, rows.stop * self.row_bytes
            if start == last and stop > start:
                last = stop
                continue
            if last > first:
                begin = max(0, first - (address + first) % AROUND)
                end = min(len(self._map), last + -(address + last) % AROUND)
                self._map.madvise(advice, begin, end - begin)
            first, last = start, stop


def copied(
    frames: Tensor, file: RowFile | None, runs: Sequence[slice], columns: Sequence[slice] = (slice(None),)
) -> tuple[Tensor, RowFile | None]:
    """Return runs of rows end to end, of them these columns side by side; of frames on disk the copy is there too.

    file: that of which ``frames`` are rows, whole or in part.

    Raises:
        ProbeError: there is no room on the disk.
    """
    width = sum(frames[:0, own].shape[1] for own in columns)
    rows = sum(run.stop - run.start for run in runs)
    made = None if file is None else RowFile(rows, width, frames[:0].numpy().dtype, file.memory)
    target = frames.new_empty(rows, width) if made is None else made.frames
    stop = 0
    for part in runs if file is None else file.walk(runs):
        start, stop = stop, stop + part.stop - part.start
        torch.cat([frames[part, own] for own in columns], dim=1, out=target[start:stop])
        if made is not None:
            made.let_go(slice(start, stop))
    return target, made
