"""Which clips go through a network together: those of like length, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Sequence


def buckets(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Return the places of ``lengths`` in buckets, longest first; each place is in one bucket.

    A bucket is padded to its longest member, its first; its members times that length come to ``most`` at most, unless
    it has a single one.
    """
    found: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda each: -lengths[each]):
        if found and (len(found[-1]) + 1) * lengths[found[-1][0]] <= most:
            found[-1].append(place)
        else:
            found.append([place])
    return found
