"""Smaller training sets: a share of the clips, the same clips for the same seed, each share within the larger ones.

A clip's place in the queue is a hash of the seed and its clip_id, so it depends on no other clip: clips that are added
later move few of those that were chosen, and a share is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from avfeat.errors import ProbeError
from probes.featureset import FeatureSet


def fraction(data: FeatureSet, share: float, seed: int) -> FeatureSet:
    """Return the share of the clips of each label that stands first in the queue, in the order of ``data``.

    Args:
        share: above 0 and up to 1; of n clips of one label max(1, round(share * n)) are taken. 1 is ``data`` itself.
        seed: another seed gives another queue; with one seed a smaller share is a subset of a larger one.

    Raises:
        ProbeError: a share outside 0 … 1.
    """
    check_share(share)
    if share == 1:
        return data
    return data.select(chosen(data.labels.tolist(), data.clip_ids, share, seed))


def check_share(share: float) -> None:
    """Refuse what is no share.

    Raises:
        ProbeError: a share outside 0 … 1.
    """
    if not 0 < share <= 1:
        raise ProbeError(f"A share of the training clips is above 0 and at most 1, not {share:g}.")


def chosen(labels: Sequence[int], clip_ids: Sequence[str], share: float, seed: int) -> list[int]:
    """Return the numbers of the clips that ``fraction`` takes, ascending."""
    queue = sorted(range(len(clip_ids)), key=lambda clip: _place(clip_ids[clip], seed))
    taken: list[int] = []
    for label in set(labels):
        own = [clip for clip in queue if labels[clip] == label]
        taken += own[: max(1, round(share * len(own)))]
    return sorted(taken)


def _place(clip_id: str, seed: int) -> bytes:
    return blake2b(f"{seed} {clip_id}".encode(), digest_size=16).digest()
