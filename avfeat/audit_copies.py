"""Clips that are one recording in two files, found by their prints without comparing every clip with every other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from avfeat.audit_measure import Print, Prints

SAME_SOUND = 0.95
SAME_STILL = 0.95
SAME_STILL_MUTE = 0.98
SAME_MOTION = 0.9
SAME_SECONDS = 0.1

_TABLES = 16
_LEAST_BITS = 8
_SEED = 0


def near_identical(
    prints: Sequence[Prints], seconds: Sequence[float | None], groups: Sequence[str | None]
) -> list[tuple[int, int]]:
    """Return the pairs of clips that are near-identical and lie in different groups, sorted.

    Two clips are when their durations differ by 0.1 s at most and both their sounds and their pictures agree:
    correlations of at least 0.95. Where one of them has no sound to compare, pictures must agree to 0.98 and move alike
    to 0.9; what neither sounds nor moves is never called a copy.

    Candidates share at least one of 16 random signatures, whose bits are the signs of projections (Charikar 2002). By
    that, of pairs at a correlation of 0.95 some per cent are missed, a tenth among a million clips, and at 0.99 below
    one in a thousand.

    Args:
        prints: of each clip.
        seconds: its duration, None unknown.
        groups: pairs within a group, and clips whose group is None, are of no interest.
    """
    pairs: set[tuple[int, int]] = set()
    for column in ([each.sound for each in prints], [each.motion for each in prints]):
        known = [at for at, each in enumerate(column) if each is not None and groups[at] is not None]
        for bucket in _buckets(column, known):
            for one, other in combinations(bucket, 2):
                if groups[one] == groups[other] or (one, other) in pairs:
                    continue
                if _alike(prints[one], prints[other], seconds[one], seconds[other]):
                    pairs.add((one, other))
    return sorted(pairs)


def _buckets(column: Sequence[Print | None], known: Sequence[int]) -> list[list[int]]:
    """Return groups of clips that share a signature."""
    if len(known) < 2:
        return []
    vectors: NDArray[np.float32] = np.stack([np.asarray(column[at], np.float32) for at in known])
    bits = max(_LEAST_BITS, int(np.log2(len(known))))
    random = np.random.default_rng(_SEED)
    found = []
    for _ in range(_TABLES):
        planes = random.standard_normal((vectors.shape[1], bits)).astype(np.float32)
        signatures = (vectors @ planes > 0) @ (1 << np.arange(bits, dtype=np.int64))
        buckets = defaultdict(list)
        for at, signature in zip(known, signatures.tolist(), strict=True):
            buckets[signature].append(at)
        found += [bucket for bucket in buckets.values() if len(bucket) > 1]
    return found


def _alike(one: Prints, other: Prints, seconds: float | None, others_seconds: float | None) -> bool:
    if seconds is not None and others_seconds is not None and abs(seconds - others_seconds) > SAME_SECONDS:
        return False
    sound = _correlation(one.sound, other.sound)
    still = _correlation(one.still, other.still)
    if sound is not None:
        return sound >= SAME_SOUND and (still is None or still >= SAME_STILL)
    motion = _correlation(one.motion, other.motion)
    return still is not None and still >= SAME_STILL_MUTE and motion is not None and motion >= SAME_MOTION


def _correlation(one: Print | None, other: Print | None) -> float | None:
    if one is None or other is None:
        return None
    return float(one.astype(np.float32) @ other.astype(np.float32))
