"""Which source frame each frame of the 25 Hz timeline shows: the slot rule, in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from typing import Generic, TypeVar

from avfeat.timeline import RATE_HZ

Item = TypeVar("Item")


def slot_of(seconds: Fraction) -> int:
    """Return the first frame that may show a picture with this time: ``floor(25 * seconds + 1/2)``.

    That is the frame whose time is nearest; a picture exactly between two goes to the later one.
    """
    return (2 * RATE_HZ * seconds.numerator + seconds.denominator) // (2 * seconds.denominator)


class Slots(Generic[Item]):
    """Turns pictures with their times into runs of frames: frame k shows the last picture whose slot is at most k.

    Frames before the first picture's slot show the first picture; pictures before time zero are seen only if they are
    the last such. This is what ffmpeg's ``fps=25:start_time=0`` does. Only one picture is held at a time.
    """

    def __init__(self) -> None:
        self.filled = 0
        """How many frames have been given out."""
        self._held: list[Item] = []

    def take(self, seconds: Fraction, item: Item) -> tuple[Item, int] | None:
        """Take the next picture in order of presentation; return the one before it and for how many frames it stays."""
        run = self._run(slot_of(seconds)) if self._held else None
        self._held = [item]
        return run

    def finish(self, end_seconds: Fraction) -> tuple[Item, int] | None:
        """Return the last run; the timeline has ``slot_of(end_seconds)`` frames, and at least one if it has a picture.

        Args:
            end_seconds: time of the last picture plus its duration.
        """
        if not self._held:
            return None
        return self._run(max(slot_of(end_seconds), 1))

    def _run(self, until: int) -> tuple[Item, int] | None:
        count = until - self.filled
        if count <= 0:
            return None
        self.filled = until
        return self._held[0], count
