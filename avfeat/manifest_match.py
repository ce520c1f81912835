"""Clips by names that other lists give them: other leading folders, blanks and brackets spelt as underscores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from avfeat.datasets.base import letters

_DROPS = ((0, 0), (1, 0), (0, 1), (2, 0), (0, 2))
"""Folders left out on one side or the other, never on both: that would take one folder's clips for another's."""


@dataclass(frozen=True)
class Match:
    """Which clip each wanted name stands for, and by what rule; None where no clip has it.

    dropped_clip_folders, dropped_wanted_folders: leading folders that were left out of account.
    respelt: whether blanks, brackets and underscores counted as alike.
    """

    found: list[str | None]
    dropped_clip_folders: int
    dropped_wanted_folders: int
    respelt: bool

    @property
    def count(self) -> int:
        """How many of the wanted names stand for a clip."""
        return sum(name is not None for name in self.found)

    def note(self, clips: str = "the clips'", wanted: str = "the listed") -> str:
        """Return what was left out of account, empty when nothing was; ``clips`` and ``wanted`` name the two sides."""
        parts = [
            f"the first {'folder' if count == 1 else f'{count} folders'} of {whose} names"
            for count, whose in ((self.dropped_clip_folders, clips), (self.dropped_wanted_folders, wanted))
            if count
        ]
        parts += ["blanks, brackets and underscores"] if self.respelt else []
        return f"matched without regard to {' and '.join(parts)}" if parts else ""


def match_names(clip_ids: Sequence[str], wanted: Sequence[str]) -> Match:
    """Find the clips that a list of names (paths without suffix) means.

    One rule holds for the whole list, so that a name whose clip is missing never falls to a clip of another folder: of
    the rules under which each name means one clip at most, the one that finds the most, and of those the plainest.

    Args:
        clip_ids: all clips of a manifest.
        wanted: names in another list's spelling, no two alike.
    """
    best: Match | None = None
    for respelt in (False, True):
        known = [letters(name) for name in clip_ids] if respelt else clip_ids
        asked = [letters(name) for name in wanted] if respelt else wanted
        for drop_clip, drop_wanted in _DROPS:
            found = _match(clip_ids, known, asked, drop_clip, drop_wanted)
            match = None if found is None else Match(found, drop_clip, drop_wanted, respelt)
            if match is not None and (best is None or match.count > best.count):
                best = match
            if best is not None and best.count == len(wanted):
                return best
    assert best is not None, "unshortened names are never two clips'"
    return best


def _match(
    clip_ids: Sequence[str], known: Sequence[str], wanted: Sequence[str], drop_clip: int, drop_wanted: int
) -> list[str | None] | None:
    """Return the clip of each wanted name by one rule; None where it makes two clips or two wanted names the same.

    Args:
        clip_ids: what is returned.
        known: the same names as spelt for comparison.
        wanted: names as spelt for comparison.
        drop_clip, drop_wanted: leading folders that are left out of account.
    """
    asked = [_below(name, drop_wanted) for name in wanted]
    meant: dict[str, str | None] = {name: None for name in asked if name}
    if len(meant) < sum(name is not None for name in asked):
        return None
    for clip_id, spelt in zip(clip_ids, known, strict=True):
        name = _below(spelt, drop_clip)
        if name in meant:
            if meant[name] is not None:
                return None
            meant[name] = clip_id
    return [None if name is None else meant.get(name) for name in asked]


def _below(path: str, folders: int) -> str | None:
    """Return the path without its first folders, None where it has not so many."""
    for _ in range(folders):
        _, slash, path = path.partition("/")
        if not slash:
            return None
    return path
