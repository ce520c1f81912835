"""Stretches of 16 kHz sound laid on one timeline that starts at time zero; pure arithmetic, no decoder."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from avfeat.timeline import SOUND_RATE_HZ


class SoundLine:
    """Sound from time zero on, kept as int16: gaps are zeros, what overlaps or lies before zero is cut.

    As ``aresample=16000:async=1:first_pts=0`` does: of two stretches that overlap the first one stays.
    """

    def __init__(self) -> None:
        self._chunks: list[NDArray[np.int16]] = []
        self._length = 0
        self._skip = 0

    def __len__(self) -> int:
        return self._length

    def begin(self, seconds: Fraction) -> None:
        """Begin a stretch of contiguous samples at this time."""
        start = round(seconds * SOUND_RATE_HZ)
        gap = start - self._length
        if gap > 0:
            self._append(np.zeros(gap, np.int16))
        self._skip = max(-gap, 0)

    def add(self, samples: NDArray[np.int16]) -> None:
        """Add the next samples of the stretch, int16 [n]."""
        cut = min(self._skip, len(samples))
        self._skip -= cut
        self._append(samples[cut:])

    def cut(self, seconds: Fraction) -> None:
        """Cut what lies after this time."""
        end = max(round(seconds * SOUND_RATE_HZ), 0)
        while self._chunks and self._length > end:
            last = self._chunks.pop()
            self._length -= len(last)
            self._append(last[: max(end - self._length, 0)])
            if self._length == end:
                return

    def samples(self) -> NDArray[np.float32]:
        """Return all of it as float32 [samples], each the stored int16 divided by 32768."""
        if len(self._chunks) > 1:
            self._chunks = [np.concatenate(self._chunks)]
        whole = self._chunks[0] if self._chunks else np.zeros(0, np.int16)
        return np.divide(whole, np.float32(32768), dtype=np.float32)

    def _append(self, samples: NDArray[np.int16]) -> None:
        if len(samples):
            self._chunks.append(samples)
            self._length += len(samples)
