"""Two threads at the rows of one clip, ten thousands of times a second: too often to let a thread sleep and wake it.

A step of Adam has stages, such as the scores of a clip's rows and then their gradient, and no stage can begin before
the one before it has ended. Each is cut into ``SHARES``. The leading thread announces a stage, all threads take shares,
and the leader goes on when all are done; a thread that another program keeps from its core takes none, and the leader
does its shares too. Sums are formed share by share, so that results do not depend on who did what.

``board`` is int64 [BOARD], zeros at first: the stage that is announced, from 1 on, or ``END``; the shares that are
done; for each share the stage for which it was taken last. Each number has a cache line of its own.
"""

from __future__ import annotations

from probes.loops.machine import (
    LINE_BYTES,
    add_shared,
    breathe,
    compiled,
    give_way,
    read_shared,
    replace_shared,
    write_shared,
)

SHARES = 2
"""As many as threads, and as ``steps.step`` adds up: each sum that one thread hands to another costs time."""

END = -1
PATIENCE = 2000  # looks at the board before another program may have the core
_APART = LINE_BYTES // 8
_STAGE, _DONE, _TAKEN = 0, _APART, 2 * _APART
BOARD = _TAKEN + SHARES * _APART


@compiled
def announce(board, stage):
    """Begin a stage; the one before it must be done."""
    write_shared(board, _DONE, 0)
    write_shared(board, _STAGE, stage)


@compiled
def end(board):
    """Let the helpers go."""
    write_shared(board, _STAGE, END)


@compiled
def take(board, stage, share):
    """Return whether this thread is to do a share, which then nobody else will."""
    place = _TAKEN + share * _APART
    return read_shared(board, place) == stage - 1 and replace_shared(board, place, stage - 1, stage)


@compiled
def finish(board):
    """Say that a share is done."""
    add_shared(board, _DONE, 1)


@compiled
def all_done(board):
    """Wait until all shares of the stage are done."""
    looks = 0
    while read_shared(board, _DONE) < SHARES:
        looks = look_away(looks)


@compiled
def next_stage(board, stage):
    """Wait until a stage other than ``stage`` is announced, and return it."""
    looks = 0
    while read_shared(board, _STAGE) == stage:
        looks = look_away(looks)
    return read_shared(board, _STAGE)


@compiled
def look_away(looks):
    """Wait a moment before the next look at the board."""
    if looks < PATIENCE:
        breathe()
    else:
        give_way()
    return looks + 1
