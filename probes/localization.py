"""How well frame scores find the fake stretches of clips: frame AUC, AP at temporal IoU, average recall.

A frame is fake when its centre lies in a fake segment. Proposals are the runs of frames whose probability sigmoid(2z)
is at least a threshold, for a ladder of thresholds. A proposal is as sure as its mean probability is above that of the
frames around it (outer-inner contrast, Shou et al. 2018): a mean alone puts the peak of a stretch above the stretch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfeat.errors import ProbeError
from probes.metrics import Ranking, area

Segment = tuple[float, float]
Numbers = NDArray[np.float64]
Weighted = Callable[[Numbers], Numbers]
"""From weights of the clips [weightings, clips] to a measure [weightings], NaN where nothing is left to find."""

THRESHOLDS = tuple(round(0.05 * k, 2) for k in range(1, 20))
OVERLAPS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))
"""The overlaps over which average recall is taken, as the localization field does."""

MARGIN = 0.25
"""How far around a proposal it is compared, as a share of its length."""

UNDECIDED = 0.5
"""The probability that stands for the frames beyond the clip's ends."""


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
    begin = track.first_seconds - track.step_seconds / 2
    found = np.column_stack([begin + track.step_seconds * runs, _contrasts(sure, runs)])
    return found[np.argsort(-found[:, 2], kind="stable")]


def _contrasts(sure: Numbers, runs: NDArray[np.int64]) -> Numbers:
    """Return how much higher the mean of each run [runs, 2] is than that of the frames a quarter of it to each side."""
    start, stop = runs.T
    margin = np.maximum(1, np.ceil(MARGIN * (stop - start)).astype(np.int64))
    most = int(margin.max(initial=0))
    total = np.concatenate([[0.0], np.cumsum(np.pad(sure, most, constant_values=UNDECIDED))])
    start, stop = start + most, stop + most
    inner = total[stop] - total[start]
    outer = total[stop + margin] - total[start - margin] - inner
    contrasts: Numbers = inner / (stop - start) - outer / (2 * margin)
    return contrasts


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
    return float(ap_of_weightings(tracks, overlap, found)(np.ones((1, len(tracks))))[0])


def average_recall(tracks: Sequence[Track], count: int, found: Sequence[Numbers] | None = None) -> float:
    """Return the share of segments found by the ``count`` surest proposals of each clip, mean over OVERLAPS.

    Raises:
        ProbeError: no clip has a fake segment.
    """
    return float(recall_of_weightings(tracks, count, found)(np.ones((1, len(tracks))))[0])


def ap_of_weightings(tracks: Sequence[Track], overlap: float, found: Sequence[Numbers] | None = None) -> Weighted:
    """Return what gives ``localization_ap`` for many weightings of the clips, as ``intervals.draws`` makes them.

    A clip drawn twice counts as two clips with the same segments and proposals, each of which takes its own.

    Raises:
        ProbeError: no clip has a fake segment.
    """
    found = [proposals(track) for track in tracks] if found is None else found
    segments = _segments(tracks)
    right = [_matches(overlaps(own, track.segments), overlap) for own, track in zip(found, tracks, strict=True)]
    order = np.argsort(-np.concatenate([own[:, 2] for own in found]), kind="stable")
    clips = np.repeat(np.arange(len(found)), [len(own) for own in found])[order]
    hits = np.flatnonzero(np.concatenate(right)[order])

    def measure(weights: Numbers) -> Numbers:
        every = np.cumsum(weights[:, clips], axis=1)[:, hits]
        own = weights[:, clips[hits]]
        precision = np.cumsum(own, axis=1) / np.maximum(every, 1e-12)
        highest_after = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        return _share((highest_after * own).sum(1), weights @ segments)

    return measure


def recall_of_weightings(tracks: Sequence[Track], count: int, found: Sequence[Numbers] | None = None) -> Weighted:
    """Return what gives ``average_recall`` for many weightings of the clips.

    Raises:
        ProbeError: no clip has a fake segment.
    """
    found = [proposals(track) for track in tracks] if found is None else found
    segments = _segments(tracks)
    hits = np.zeros(len(tracks))
    for clip in np.flatnonzero(segments).tolist():
        shared = overlaps(found[clip][:count], tracks[clip].segments)
        hits[clip] = sum(int(_matches(shared, overlap).sum()) for overlap in OVERLAPS) / len(OVERLAPS)
    return lambda weights: _share(weights @ hits, weights @ segments)


def _segments(tracks: Sequence[Track]) -> Numbers:
    """Return how many fake segments each clip has."""
    segments = np.array([len(track.segments) for track in tracks], np.float64)
    if not segments.any():
        raise ProbeError("Localization needs clips with fake segments; there are none.")
    return segments


def _share(part: Numbers, whole: Numbers) -> Numbers:
    shares: Numbers = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return shares


def _matches(shared: Numbers, overlap: float) -> NDArray[np.bool_]:
    """Return which proposals, surest first, take a segment that none before them took."""
    right = np.zeros(len(shared), bool)
    if not shared.size:
        return right
    free = shared.copy()
    # One round for each segment that is taken: the rows between are those that take none.
    while (able := (free >= overlap).any(1)).any():
        first = int(np.argmax(able))
        right[first] = True
        free[:, int(np.argmax(free[first]))] = -1.0
        free[: first + 1] = -1.0
    return right


def _auc(scores: ArrayLike, labels: ArrayLike) -> float:
    return float(area(Ranking(scores, labels).curve())[0])
