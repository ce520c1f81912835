"""The rows of a clip: in memory, or read from a file into a buffer that stays in the processor's cache.

A mapped file would do too, but to map its pages when they are looked at, and to let go of them, takes as long as the
arithmetic.
"""

from __future__ import annotations

from probes.loops.machine import add_shared, ask_file_for, compiled, read_file

DESCRIPTOR, BEGIN, FAILURES = range(3)
"""What ``clips.file`` says: the open file, or -1 for frames in memory; the byte of the first row; what failed."""


@compiled
def place(clips, first, last, buffer):
    """Return where the frames ``first:last`` are: in memory, or, once they are fetched from a file, in ``buffer``.

    buffer: of the frames' type, as wide and at least as many rows.
    """
    return clips.frames[first:last] if clips.file[DESCRIPTOR] < 0 else buffer[: last - first]


@compiled
def fetch(clips, first, rows):
    """Read the frames from ``first`` on, if they are in a file, to their place ``rows``."""
    if clips.file[DESCRIPTOR] < 0:
        return
    begin, done, count = clips.file[BEGIN] + first * _row_bytes(clips), 0, len(rows) * _row_bytes(clips)
    while done < count:
        found = read_file(clips.file[DESCRIPTOR], rows, done, count - done, begin + done)
        if found <= 0:
            add_shared(clips.file, FAILURES, 1)
            return
        done += found


@compiled
def ask(clips, first, last):
    """Have the frames ``first:last`` of a file read ahead, for they are needed next."""
    if clips.file[DESCRIPTOR] >= 0:
        size = _row_bytes(clips)
        ask_file_for(clips.file[DESCRIPTOR], clips.file[BEGIN] + first * size, (last - first) * size)


@compiled
def coming(clips, first, last):
    """Return the frames ``first:last``, which are needed next, for prefetching: none of a file, which is asked for."""
    ask(clips, first, last)
    return clips.frames[first:last] if clips.file[DESCRIPTOR] < 0 else clips.frames[:0]


@compiled
def _row_bytes(clips):
    return clips.frames.shape[1] * clips.frames.itemsize
