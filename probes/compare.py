"""Are two probes of the same clips different? DeLong's test of two correlated AUCs, and paired bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfeat.errors import ProbeError
from probes.evaluation import Asked, load_test, speaker_groups
from probes.heads import Head
from probes.intervals import REPLICATES, Measure, difference, measure
from probes.loading import Choice, Loaded, Source
from probes.metrics import METRICS, Ranking


@dataclass(frozen=True)
class Comparison:
    """AUC of each, their difference with its 95 % interval, z, and the two-sided p-value."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    z: float
    p: float


@dataclass(frozen=True)
class Compared:
    """Two probes on one test set.

    clips: those that both can score; left_out: those that only one can.
    first, second, difference: by metric; the difference is first less second.
    delong: DeLong's test of the two AUCs, which takes clips to be independent.
    """

    name: str
    clips: int
    left_out: int
    first: Mapping[str, Measure]
    second: Mapping[str, Measure]
    difference: Mapping[str, Measure]
    delong: Comparison

    def facts(self) -> dict[str, Any]:
        """Plain data; a z that is not finite becomes null."""
        found = asdict(self)
        if not np.isfinite(self.delong.z):
            found["delong"]["z"] = None
        return found


def delong(first: ArrayLike, second: ArrayLike, labels: ArrayLike) -> Comparison:
    """Compare the scores [clips] of two probes for the same clips (DeLong et al. 1988, midranks of Sun and Xu 2014).

    Raises:
        ProbeError: unequal numbers of scores, or clips of one class only.
    """
    truth = np.asarray(labels)
    for scores in (first, second):
        Ranking(scores, truth)
    both = np.stack([np.asarray(first, np.float64), np.asarray(second, np.float64)])
    fakes, reals = both[:, truth == 1], both[:, truth == 0]
    if min(fakes.shape[1], reals.shape[1]) < 2:
        raise ProbeError("DeLong's test needs at least two clips of each class.")
    of_fakes = np.stack([_placed(own, others) for own, others in zip(fakes, reals, strict=True)])
    of_reals = 1 - np.stack([_placed(own, others) for own, others in zip(reals, fakes, strict=True)])
    areas = of_fakes.mean(1)
    covariance = np.cov(of_fakes) / fakes.shape[1] + np.cov(of_reals) / reals.shape[1]
    difference = float(areas[0] - areas[1])
    deviation = math.sqrt(max(float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]), 0.0))
    if deviation < 1e-12:
        z = 0.0 if abs(difference) < 1e-12 else math.copysign(math.inf, difference)
    else:
        z = difference / deviation
    half = 1.959963984540054 * deviation
    p = math.erfc(abs(z) / math.sqrt(2))
    return Comparison(float(areas[0]), float(areas[1]), difference, difference - half, difference + half, z, p)


def compare_probes(
    first: Head,
    second: Head,
    stores: Sequence[Path],
    tests: Sequence[str],
    metrics: Sequence[str] = tuple(METRICS),
    intervals_by: str = "clip",
    replicates: int = REPLICATES,
    memory: str | None = None,
) -> tuple[Compared, ...]:
    """Compare two probes, of the same or of different features, on the clips of each test set that both can score.

    memory: what frames may take of it, like ``1GB``; None: no limit.

    Raises:
        ProbeError: no clip that both can score, one class only, or frames that a probe cannot read.
        StoreError, ManifestError: a store, manifest, split or feature is not there.
    """
    asked = Asked(tuple(metrics), intervals_by, replicates)
    return tuple(_compare(first, second, stores, choice, asked, memory) for choice in map(Choice.parse, tests))


def _compare(
    first: Head, second: Head, stores: Sequence[Path], choice: Choice, asked: Asked, memory: str | None
) -> Compared:
    scores: list[dict[str, float]] = []
    for probe in (first, second):
        loaded = load_test(Source(stores, probe.features_, memory), choice, asked)
        own: NDArray[np.float32] = probe.decision_function(loaded.data)
        scores.append(dict(zip(loaded.data.clip_ids, own.tolist(), strict=True)))
    rows = [row for row, clip_id in enumerate(loaded.data.clip_ids) if clip_id in scores[0]]
    if not rows:
        raise ProbeError(f"{choice}: there is no clip that both probes can score.")
    one, other = (np.array([each[loaded.data.clip_ids[row]] for row in rows]) for each in scores)
    labels, groups = loaded.data.labels.numpy()[rows], _groups(loaded, rows, asked)
    names, times = asked.metrics, asked.replicates
    return Compared(
        str(choice),
        len(rows),
        len(scores[0].keys() ^ scores[1].keys()),
        measure(one, labels, names, groups=groups, replicates=times),
        measure(other, labels, names, groups=groups, replicates=times),
        difference(one, other, labels, names, groups=groups, replicates=times),
        delong(one, other, labels),
    )


def _groups(loaded: Loaded, rows: Sequence[int], asked: Asked) -> list[str | None] | None:
    groups = speaker_groups(loaded, asked.intervals_by)
    return None if groups is None else [groups[row] for row in rows]


def _placed(own: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each own score the share of the others below it, ties counting half."""
    ordered = np.sort(others)
    below, upto = np.searchsorted(ordered, own, "left"), np.searchsorted(ordered, own, "right")
    shares: NDArray[np.float64] = (below + upto) / (2 * len(others))
    return shares
