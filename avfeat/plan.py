"""What is to be done: the manifest cut into parts, and which parts of which features are not there yet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from avfeat.errors import AvfeatError

LARGEST_PART = 500
SMALLEST_PART = 16
PARTS_WANTED = 64


@dataclass(frozen=True)
class Part:
    """A fixed range of clips, the unit of work, commit and retry; ``clip_ids`` are sorted."""

    number: int
    clip_ids: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """One part to do: for each feature the clips that it lacks."""

    part: Part
    clips: dict[str, tuple[str, ...]]

    def clip_ids(self) -> list[str]:
        """All clips that any of the features needs, sorted."""
        return sorted({clip_id for clip_ids in self.clips.values() for clip_id in clip_ids})


@dataclass(frozen=True)
class Shard:
    """Every ``count``-th part, beginning with part ``index``: the share of one job of a job array."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``i/n`` with 0 <= i < n.

        Raises:
            AvfeatError: another form.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None or not int(match[1]) < int(match[2]):
            raise AvfeatError(f"--shard {text!r}: write i/n with 0 <= i < n, e.g. 0/8 to 7/8 for eight jobs.")
        return cls(int(match[1]), int(match[2]))


def part_size(clips: int) -> int:
    """Return how many clips a part of a manifest of ``clips`` clips has when nobody says otherwise.

    About 64 parts, so that a killed job of any size loses little, in bounds that keep the files few and large.
    """
    return min(LARGEST_PART, max(SMALLEST_PART, -(-clips // PARTS_WANTED)))


def cut(clip_ids: Sequence[str], part_clips: int) -> list[Part]:
    """Cut sorted clip ids into parts; a pure function, so that every worker anywhere makes the same plan."""
    return [
        Part(number, tuple(clip_ids[start : start + part_clips]))
        for number, start in enumerate(range(0, len(clip_ids), part_clips))
    ]


def choose(parts: Iterable[Part], shard: Shard, limit: int | None) -> list[Part]:
    """Return the parts of one shard, and of those only as many whole parts as hold ``limit`` clips."""
    mine = [part for part in parts if part.number % shard.count == shard.index]
    if limit is None:
        return mine
    chosen: list[Part] = []
    for part in mine:
        if sum(len(each.clip_ids) for each in chosen) >= limit:
            break
        chosen.append(part)
    return chosen
