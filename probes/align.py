"""Join the rows of several features of one clip by time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfeat.errors import LengthError

TIE = 1e-6
"""A time half way between two rows goes to the earlier one, whatever the rounding."""


@dataclass(frozen=True)
class Rows:
    """The rows of one feature of one clip: row k is at ``first_seconds + k / rate_hz``."""

    feature: str
    count: int
    rate_hz: float
    first_seconds: float

    def nearest(self, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the number of the row nearest to each time; it may lie outside 0 … count - 1."""
        numbers: NDArray[np.int64] = np.floor((seconds - self.first_seconds) * self.rate_hz + 0.5 - TIE).astype(
            np.int64
        )
        return numbers

    def __str__(self) -> str:
        last = self.first_seconds + (self.count - 1) / self.rate_hz
        return f"{self.feature} has {self.count} rows ({self.first_seconds:.3f} to {last:.3f} s)"


def join(streams: Sequence[Rows]) -> list[NDArray[np.int64]]:
    """Return for each feature the numbers of its rows that stand side by side, equally many for all.

    The feature with the highest rate sets the times; of every other the row nearest in time is taken, so that a row at
    12.5 Hz stands beside two at 25 Hz.

    Raises:
        LengthError: at one end a feature would lose more than one row; the message has all lengths.
    """
    leader = max(streams, key=lambda rows: rows.rate_hz)
    times = leader.first_seconds + np.arange(leader.count) / leader.rate_hz
    numbers = [rows.nearest(times) for rows in streams]
    inside = np.ones(leader.count, bool)
    for rows, own in zip(streams, numbers, strict=True):
        inside &= (own >= 0) & (own < rows.count)
    joined = [own[inside] for own in numbers]
    slowest = min(rows.rate_hz for rows in streams)
    for rows, own in zip(streams, joined, strict=True):
        allowed = max(1.0, rows.rate_hz / slowest)
        if not len(own) or own[0] > allowed or rows.count - 1 - own[-1] > allowed:
            lengths = " but ".join(map(str, streams))
            raise LengthError(f"{lengths}: more than one row apart, so they cannot be joined by time.")
    return joined
