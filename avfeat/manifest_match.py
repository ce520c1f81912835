"""Clips by names that other lists give them: other leading folders, blanks and brackets spelt as underscores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    best = _match(clip_ids, wanted, 0, 0, False)
    assert best is not None
    for respelt in (False, True):
        for drop_clip, drop_wanted in _DROPS:
            if best.count == len(wanted):
                return best
            other = _match(clip_ids, wanted, drop_clip, drop_wanted, respelt)
            if other is not None and other.count > best.count:
                best = other
    return best


def _match(
    clip_ids: Sequence[str], wanted: Sequence[str], drop_clip: int, drop_wanted: int, respelt: bool
) -> Match | None:
    """Return what one rule finds; None where it makes two clips or two wanted names the same."""
    spelling: Callable[[str], str] = letters if respelt else str
    asked = [_below(spelling(name), drop_wanted) for name in wanted]
    known: set[str] = set(filter(None, asked))
    if len(known) < sum(name is not None for name in asked):
        return None
    meant: dict[str, str] = {}
    for clip_id in clip_ids:
        name = _below(spelling(clip_id), drop_clip)
        if name in known:
            if name in meant:
                return None
            meant[name] = clip_id
    found = [None if name is None else meant.get(name) for name in asked]
    return Match(found, drop_clip, drop_wanted, respelt)


def _below(path: str, folders: int) -> str | None:
    """Return the path without its first folders, None where it has not so many."""
    for _ in range(folders):
        _, slash, path = path.partition("/")
        if not slash:
            return None
    return path
