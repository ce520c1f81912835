"""Measure a probe's frame scores against the fake stretches that a manifest lists, with intervals.

frame AUC                  of all frames of the clips with a fake stretch together
frame AUC, mean of clips   the mean of these clips' own
AP@0.5, 0.75, 0.95         of proposals at that temporal IoU, see localization.py
AR@10, 20, 50              average recall of so many proposals a clip
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import rankdata

from avfeat.errors import ProbeError
from probes.heads import Head
from probes.intervals import CELLS_AT_ONCE, LEVEL, REPLICATES, Measure, draws
from probes.loading import Loaded
from probes.localization import Numbers, Segment, Track, Weighted, ap_of_weightings, proposals, recall_of_weightings
from probes.metrics import Ranking, area

AP_OVERLAPS = (0.5, 0.75, 0.95)
AR_COUNTS = (10, 20, 50)
REAL = 0


@dataclass(frozen=True)
class FrameTest:
    """How well the frame scores of one test set find what is fake.

    column: of the manifest, where the stretches are from, and ``why`` that one.
    clips: those whose stretches are known; fakes: those of them that have one; unknown: those left out.
    measures: by name; one that these clips do not allow is missing.
    """

    column: str
    why: str
    clips: int
    fakes: int
    unknown: int
    measures: Mapping[str, Measure]

    def facts(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def __str__(self) -> str:
        left = f"; left out: {self.unknown} of which nobody says where they are fake" if self.unknown else ""
        return f"{self.clips} clips, {self.fakes} of them with fake stretches, from {self.column} ({self.why}){left}"


def measure_probe(
    probe: Head,
    loaded: Loaded,
    attributes: Mapping[str, Mapping[str, Any]],
    groups: Sequence[str | None] | None = None,
    replicates: int = REPLICATES,
) -> FrameTest:
    """Measure a probe's frame scores on a test set.

    Args:
        attributes: of each feature as the store has them; they say what the feature reads.
        groups: what the bootstrap draws whole, for each clip.

    Raises:
        ProbeError: no clip of the set is known to have a fake stretch.
    """
    column, why = stretches_column(loaded, attributes)
    known, tracks = [], []
    for clip, scores in enumerate(probe.frame_scores(loaded.data)):
        stretches = _stretches(loaded, column, clip)
        if stretches is not None:
            known.append(clip)
            tracks.append(Track(scores, stretches, float(loaded.starts[clip]), loaded.times[1]))
    own = None if groups is None else [groups[clip] for clip in known]
    measures = measure_tracks(by_rank(tracks), groups=own, replicates=replicates)
    fakes = sum(bool(track.segments) for track in tracks)
    return FrameTest(column, why, len(known), fakes, len(loaded.data) - len(known), measures)


def stretches_column(loaded: Loaded, attributes: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    """Return the column of fake stretches that fits what the features read, and why that one.

    Raises:
        ProbeError: nobody says where any clip of the set is fake.
    """
    reads = [each.get("identity", {}).get("reads") for each in attributes.values()]
    kinds = {view["kind"] for views in reads for view in views or ()}
    if not all(reads):
        column, why = "segments", "the features do not say what they read"
    elif kinds == {"sound"}:
        column, why = "audio_segments", "the probe reads sound only"
    elif "sound" not in kinds:
        column, why = "video_segments", "the probe reads pictures only"
    else:
        column, why = "segments", "the probe reads sound and pictures"
    clips = range(len(loaded.data))
    if any(_stretches(loaded, column, clip) for clip in clips):
        return column, why
    if any(_stretches(loaded, "segments", clip) for clip in clips):
        return "segments", f"{why}, but no clip has {column}"
    raise ProbeError(f"{loaded.choice}: no clip is known to have a fake stretch; the manifest must list segments.")


def by_rank(tracks: Sequence[Track]) -> list[Track]:
    """Return tracks whose sigmoid(2z) is the share of all frames that score lower.

    So the ladder of thresholds is one of shares of frames. A threshold on the sigmoid of the scores would mean little:
    log-sum-exp adds up to log T to the frames of a clip, so that of fake clips too nearly all lie below 0, and errors
    and distances know no 0. The order of the frames, and so every frame AUC, stays as it is.
    """
    every = np.concatenate([track.scores for track in tracks])
    shares = (rankdata(every) - 0.5) / len(every)
    parts = np.split(np.arctanh(2 * shares - 1), np.cumsum([len(track.scores) for track in tracks])[:-1])
    return [replace(track, scores=part.astype(np.float32)) for track, part in zip(tracks, parts, strict=True)]


def measure_tracks(
    tracks: Sequence[Track],
    *,
    groups: Sequence[str | None] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Measure]:
    """Return each measure with its interval; draws are of clips, or of groups of clips.

    Raises:
        ProbeError: no clip has a fake segment.
    """
    found = {}
    for name, (measure, cells) in _measures(tracks).items():
        drawn = [_in_blocks(measure, weights, cells) for weights in draws(len(tracks), groups, replicates, seed)]
        whole = measure(np.ones((1, len(tracks))))
        low, high = np.nanquantile(np.concatenate([*drawn, whole]), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        found[name] = Measure(float(whole[0]), float(low), float(high))
    return found


def _measures(tracks: Sequence[Track]) -> dict[str, tuple[Weighted, int]]:
    """Return what computes each measure, and how many numbers it handles for each weighting."""
    found = [proposals(track) for track in tracks]
    cells = max(1, sum(map(len, found)))
    measures = {f"AP@{each:g}": (ap_of_weightings(tracks, each, found), cells) for each in AP_OVERLAPS}
    measures |= {f"AR@{each}": (recall_of_weightings(tracks, each, found), len(tracks)) for each in AR_COUNTS}
    labels = [track.labels() for track in tracks]
    fakes = [clip for clip, own in enumerate(labels) if own.any()]
    mixed = [clip for clip in fakes if not labels[clip].all()]
    if not mixed:
        return measures
    aucs = np.array([area(Ranking(tracks[clip].scores, labels[clip]).curve())[0] for clip in mixed])
    ranking = Ranking(
        np.concatenate([tracks[clip].scores for clip in fakes]), np.concatenate([labels[clip] for clip in fakes])
    )
    clips = np.repeat(fakes, [len(labels[clip]) for clip in fakes])

    def mean(weights: Numbers) -> Numbers:
        own = weights[:, mixed]
        total = own.sum(1)
        means: Numbers = np.divide(own @ aucs, total, out=np.full(total.shape, np.nan), where=total > 0)
        return means

    return {
        "frame AUC": (lambda weights: area(ranking.curve(weights[:, clips])), len(clips)),
        "frame AUC, mean of clips": (mean, len(tracks)),
        **measures,
    }


def _in_blocks(measure: Weighted, weights: Numbers, cells: int) -> Numbers:
    step = max(1, CELLS_AT_ONCE // cells)
    return np.concatenate([measure(weights[start : start + step]) for start in range(0, len(weights), step)])


def _stretches(loaded: Loaded, column: str, clip: int) -> list[Segment] | None:
    """Return one clip's fake stretches; a real clip has none, whatever the manifest leaves open; None is unknown."""
    listed = loaded.rows[column][clip]
    if listed is None:
        return [] if int(loaded.data.labels[clip]) == REAL else None
    return [(each["start_seconds"], each["end_seconds"]) for each in listed]
