"""What a clip announced against what could be decoded: done or truncated, and one sentence on what is missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

Status = Literal["done", "truncated"]

Span = tuple[Fraction, Fraction]
"""From and to, in seconds on the timeline."""

SHORTEST_LOSS = Fraction(1, 25)
"""Seconds: what is missing counts from one and a half frames of the 25 Hz timeline on."""


SHORTEST_HOLE = Fraction(1, 2)
"""Seconds: holes count from here on, and not by themselves, for uneven stamps and pauses make some too."""


@dataclass
class Count:
    """What one stream announced and what came of it.

    announced: entries in the index of the file, None where it has none that counts.
    announced_end: seconds on the timeline, None where the file does not say.
    step: seconds of one picture, or of one packet of sound.
    packets, discarded: read from the file; marked there as not to be shown, as an edit list does.
    decoded, corrupt: what the decoder gave; how many of those it marked as damaged.
    corrupt_packets: how many the container marked as damaged.
    holes: from the end of one frame to the stamp of the next, where that is more than a step and a half.
    misplaced: pictures whose stamp lies before one that was already shown; they are left out.
    failed, lost_seconds: packets that the decoder refused, and how long they would have been.
    start, end: seconds on the timeline.
    jump: where the clock of the stream jumps so far that nothing after it can be placed, from and to.
    """

    announced: int | None = None
    announced_end: Fraction | None = None
    step: Fraction = SHORTEST_LOSS
    packets: int = 0
    discarded: int = 0
    decoded: int = 0
    corrupt: int = 0
    corrupt_packets: int = 0
    holes: list[Span] = field(default_factory=list)
    misplaced: int = 0
    failed: int = 0
    lost_seconds: Fraction = field(default_factory=Fraction)
    start: Fraction | None = None
    end: Fraction | None = None
    jump: Span | None = None

    @property
    def damages(self) -> int:
        """How often the decoder or the container complained."""
        return self.failed + max(self.corrupt, self.corrupt_packets)

    @property
    def hole_seconds(self) -> Fraction:
        """How long all holes are together."""
        return sum((end - start for start, end in self.holes), Fraction(0))

    @property
    def allowed(self) -> Fraction:
        """Seconds that may be missing: one step and a half, so that one is allowed and two are not."""
        return Fraction(3, 2) * max(self.step, SHORTEST_LOSS)

    @property
    def missing(self) -> int:
        """How many steps were announced, or stored, and not decoded.

        Without an index only packets count, and only if the decoder complained: VP8 and packed MPEG-4 have packets
        that rightly show nothing.
        """
        if self.announced is not None:
            return max(self.announced - self.discarded - self.decoded, 0)
        return max(self.packets - self.discarded - self.decoded, 0) if self.damages else 0

    @property
    def short(self) -> Fraction:
        """Seconds between where the stream ends and where it was announced to end, 0 if that is not known."""
        if self.announced_end is None:
            return Fraction(0)
        return max(self.announced_end - (self.end or Fraction(0)), Fraction(0))


def verdict(
    pictures: Count | None, sound: Count | None, whole_end: Fraction | None, cut_off: bool
) -> tuple[Status, str]:
    """Return the status of a clip and one sentence on all that is missing or damaged, empty if nothing is.

    More than one picture short, or more than one packet of sound and 60 ms, is truncated; so is a hole of half a second
    in its middle, if both streams have it or something is damaged. Damage that costs less leaves a clip done, with a
    sentence.

    Args:
        pictures: None where they were not read.
        sound: None where it was not read.
        whole_end: where the file as a whole announced to end, in seconds; None if it does not say, if its streams do,
            or if not all of them were read.
        cut_off: whether the file is shorter than it says itself.
    """
    read = [each for each in (pictures, sound) if each is not None]
    if not read:
        return "done", ""
    losses = [*_lost_pictures(pictures), *_lost_sound(sound)] or _lost_in_all(read, whole_end, cut_off)
    damages = [
        f"has {each.damages} damaged {one if each.damages == 1 else many}"
        for each, one, many in (
            (pictures, "picture", "pictures"),
            (sound, "packet of sound", "packets of sound"),
        )
        if each is not None and each.damages
    ]
    holes = _sound_holes(sound)
    if not losses:
        said = damages + holes
        return "done", f"{'; '.join(said)}." if said else ""
    cause = "the file is cut off" if cut_off else "its data are damaged" if damages else "the rest is not in the file"
    return "truncated", f"{'; '.join(losses)}: {cause}."


def _lost_in_all(read: list[Count], whole_end: Fraction | None, cut_off: bool) -> list[str]:
    end = max((each.end for each in read if each.end is not None), default=Fraction(0))
    if whole_end is not None and whole_end - end > max(each.allowed for each in read):
        return [f"announces {_seconds(whole_end)} and ends after {_seconds(end)}"]
    if any(each.damages for each in read):
        hole = max(each.hole_seconds for each in read)
    else:
        hole = _common(read[0].holes, read[-1].holes) if len(read) > 1 else Fraction(0)
    if hole > SHORTEST_HOLE:
        return [f"lacks {_seconds(hole)} in its middle"]
    if cut_off and whole_end is None and all(each.announced_end is None for each in read):
        return [f"ends after {_seconds(end)} and does not say how long it was"]
    return []


def _common(first: list[Span], second: list[Span]) -> Fraction:
    """Return how long both streams have a hole at the same time."""
    total, i, j = Fraction(0), 0, 0
    while i < len(first) and j < len(second):
        (start, end), (other_start, other_end) = first[i], second[j]
        total += max(min(end, other_end) - max(start, other_start), Fraction(0))
        i, j = (i + 1, j) if end < other_end else (i, j + 1)
    return total


def _lost_pictures(count: Count | None) -> list[str]:
    if count is None:
        return []
    if count.jump:
        return [_jump("pictures", count.jump)]
    losses = []
    until = f" up to {_seconds(count.end)} of {_seconds(count.announced_end)}" if count.short > count.allowed else ""
    if count.missing > 1:
        total = (count.announced or count.packets) - count.discarded
        losses.append(f"announces {total} pictures, only {count.decoded} can be decoded{until}")
    elif until:
        losses.append(f"has pictures only{until}")
    if count.misplaced > 1:
        losses.append(f"{count.misplaced} of its pictures go back in time and are left out")
    return losses


def _lost_sound(count: Count | None) -> list[str]:
    if count is None:
        return []
    if count.jump:
        return [_jump("sound", count.jump)]
    if count.short > count.allowed:
        return [f"has sound only up to {_seconds(count.end)} of {_seconds(count.announced_end)}"]
    if count.lost_seconds > count.allowed:
        return [f"{_seconds(count.lost_seconds)} of its sound cannot be decoded"]
    return []


def _sound_holes(count: Count | None) -> list[str]:
    if count is None or count.hole_seconds <= count.allowed:
        return []
    return [f"has no sound for {_seconds(count.hole_seconds)} in its middle"]


def _jump(what: str, jump: Span) -> str:
    return f"the clock of its {what} jumps from {_seconds(jump[0])} to {_seconds(jump[1])}, nothing later can be placed"


def _seconds(value: Fraction | None) -> str:
    return f"{float(value or 0):.2f} s"
