"""Are two probes of the same clips different? DeLong's test of two correlated AUCs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfeat.errors import ProbeError
from probes.metrics import Ranking


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


def _placed(own: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each own score the share of the others below it, ties counting half."""
    ordered = np.sort(others)
    below, upto = np.searchsorted(ordered, own, "left"), np.searchsorted(ordered, own, "right")
    shares: NDArray[np.float64] = (below + upto) / (2 * len(others))
    return shares
