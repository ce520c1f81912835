"""How well frame scores find the fake stretches of clips: frame AUC, AP at temporal IoU, average recall.

A frame is fake when its centre lies in a fake segment. Proposals are the runs of frames whose probability sigmoid(2z)
is at least a threshold, for a ladder of thresholds; a proposal is as sure as its frames are on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfeat.errors import ProbeError
from probes.metrics import Ranking, area

Segment = tuple[float, float]
Numbers = NDArray[np.float64]

THRESHOLDS = tuple(round(0.05 * k, 2) for k in range(1, 20))
OVERLAPS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))
"""The overlaps over which average recall is taken, as the localization field does."""


@dataclass(frozen=True)
class Track:
    """One clip: its frame scores z, at ``first_seconds + k * step_seconds``, and its fake segments in seconds."""

    scores: NDArray[np.float32]
    segments: Sequence[Segment]
    first_seconds: float = 0.02
    step_seconds: float = 0.04

    def labels(self) -> NDArray[np.int64]:
        """Return 1 for each frame whose centre lies in a fake segment (its end not included)."""
        times = self.first_seconds + self.step_seconds * np.arange(len(self.scores))
        inside = np.zeros(len(times), bool)
        for start, end in self.segments:
            inside |= (times >= start) & (times < end)
        return inside.astype(np.int64)


def frame_auc(tracks: Sequence[Track]) -> tuple[float, float]:
    """Return micro and macro frame AUC: of all frames of the clips together, and the mean over clips.

    Give fake clips only. A clip whose frames are all of one kind has no AUC of its own and is left out of the mean; NaN
    when no clip has one.

    Raises:
        ProbeError: all frames of all clips are of one kind.
    """
    labels = [track.labels() for track in tracks]
    together = np.concatenate(labels)
    if len(np.unique(together)) < 2:
        raise ProbeError(f"Frame AUC needs real and fake frames; all {len(together)} are of one kind.")
    micro = _auc(np.concatenate([track.scores for track in tracks]), together)
    own = [_auc(track.scores, label) for track, label in zip(tracks, labels, strict=True) if len(np.unique(label)) > 1]
    return micro, float(np.mean(own)) if own else float("nan")


def proposals(track: Track, thresholds: Sequence[float] = THRESHOLDS) -> Numbers:
    """Return distinct runs above the thresholds, surest first: float64 [runs, 3], start and end seconds, sureness."""
    sure = 0.5 * (1 + np.tanh(track.scores.astype(np.float64)))
    above = sure >= np.asarray(thresholds)[:, None]
    edges = np.diff(np.pad(above.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    runs = np.stack([np.nonzero(edges == 1)[1], np.nonzero(edges == -1)[1]], axis=1)
    runs = np.unique(runs, axis=0) if len(runs) else runs.reshape(0, 2)
    total = np.concatenate([[0.0], np.cumsum(sure)])
    mean = (total[runs[:, 1]] - total[runs[:, 0]]) / np.maximum(runs[:, 1] - runs[:, 0], 1)
    begin = track.first_seconds - track.step_seconds / 2
    found = np.column_stack([begin + track.step_seconds * runs, mean])
    return found[np.argsort(-mean, kind="stable")]


def overlaps(found: Numbers, segments: Sequence[Segment]) -> Numbers:
    """Return the temporal IoU of every proposal with every segment, float64 [proposals, segments]."""
    truth = np.asarray(segments, np.float64).reshape(-1, 2)
    common = np.minimum(found[:, 1, None], truth[:, 1]) - np.maximum(found[:, 0, None], truth[:, 0])
    common = np.maximum(common, 0.0)
    union = (found[:, 1] - found[:, 0])[:, None] + (truth[:, 1] - truth[:, 0]) - common
    shares: Numbers = common / np.maximum(union, 1e-12)
    return shares


def localization_ap(tracks: Sequence[Track], overlap: float, found: Sequence[Numbers] | None = None) -> float:
    """Return the average precision of the proposals of all clips, real ones included, at one temporal IoU.

    The surest proposals come first; each takes the segment of its clip that it overlaps most among those not taken, and
    is right when that overlap is at least ``overlap``. Precision is made to never rise with recall.

    Raises:
        ProbeError: no clip has a fake segment.
    """
    found = [proposals(track) for track in tracks] if found is None else found
    segments = sum(len(track.segments) for track in tracks)
    if segments == 0:
        raise ProbeError("Localization needs clips with fake segments; there are none.")
    right = [_matches(overlaps(own, track.segments), overlap) for own, track in zip(found, tracks, strict=True)]
    sure = np.concatenate([own[:, 2] for own in found])
    hits = np.concatenate(right)[np.argsort(-sure, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    highest_after = np.maximum.accumulate(precision[::-1])[::-1]
    return float((highest_after * hits).sum() / segments)


def average_recall(tracks: Sequence[Track], count: int, found: Sequence[Numbers] | None = None) -> float:
    """Return the share of segments found by the ``count`` surest proposals of each clip, mean over OVERLAPS.

    Raises:
        ProbeError: no clip has a fake segment.
    """
    found = [proposals(track) for track in tracks] if found is None else found
    segments = sum(len(track.segments) for track in tracks)
    if segments == 0:
        raise ProbeError("Localization needs clips with fake segments; there are none.")
    hits = 0
    for own, track in zip(found, tracks, strict=True):
        if len(track.segments) and len(own):
            shared = overlaps(own[:count], track.segments)
            hits += sum(int(_matches(shared, overlap).sum()) for overlap in OVERLAPS)
    return hits / segments / len(OVERLAPS)


def _matches(shared: Numbers, overlap: float) -> NDArray[np.bool_]:
    """Return which proposals, surest first, take a segment that none before them took."""
    right = np.zeros(len(shared), bool)
    free = shared.copy()
    for k in range(len(free)):
        if not free.shape[1]:
            break
        best = int(np.argmax(free[k]))
        if free[k, best] >= overlap:
            right[k] = True
            free[:, best] = -1.0
    return right


def _auc(scores: ArrayLike, labels: ArrayLike) -> float:
    return float(area(Ranking(scores, labels).curve())[0])
