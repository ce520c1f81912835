"""Do the probabilities mean what they say? Reliability by bins, and the line and unit that mend them best.

The probability of fake is sigmoid(2 (s - line) / unit). With line 0 the unit is a temperature (Guo et al. 2017), which
says how sure the probe may be; with a line of its own this is Platt's scaling (1999), which also moves the score from
which on a clip is called fake.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfeat.errors import ProbeError
from probes.metrics import Ranking

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """Clips by their probability of being fake, in bins of equal width from 0 to 1.

    counts: int64 [bins]; stated and found: float64 [bins], the mean probability and the share of fakes, NaN where a bin
    is empty. error: the mean of |stated - found| over clips (expected calibration error).
    """

    counts: NDArray[np.int64]
    stated: Numbers
    found: Numbers
    error: float


def probabilities(scores: ArrayLike, temperature: float = 1.0) -> Numbers:
    """Return sigmoid(2s / temperature), without overflow."""
    result: Numbers = 0.5 * (1 + np.tanh(np.asarray(scores, np.float64) / temperature))
    return result


def reliability(scores: ArrayLike, labels: ArrayLike, bins: int = 10, temperature: float = 1.0) -> Reliability:
    """Compare stated probabilities with how often the clips are fake.

    Raises:
        ProbeError: labels besides 0 and 1, or one class only.
    """
    Ranking(scores, labels)
    stated, truth = probabilities(scores, temperature), np.asarray(labels, np.float64)
    own = np.minimum((stated * bins).astype(np.int64), bins - 1)
    counts = np.bincount(own, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = np.bincount(own, stated, bins) / counts
        shares = np.bincount(own, truth, bins) / counts
    error = float(np.nansum(np.abs(means - shares) * counts) / len(stated))
    return Reliability(counts, means, shares, error)


def best_temperature(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the temperature T with the lowest cross-entropy of sigmoid(2s/T); fit it on validation clips.

    The loss is convex in 1/T, so Newton's method with halved steps finds it; whether there is one shows beforehand.

    Raises:
        ProbeError: one class only; or no positive temperature is best, because the scores rank clips worse than chance
            or separate them entirely.
    """
    Ranking(scores, labels)
    logits, truth = 2 * np.asarray(scores, np.float64), np.asarray(labels, np.float64)

    if np.mean((0.5 - truth) * logits) >= 0:
        raise ProbeError("No temperature can be fitted: the scores rank clips no better than chance.")
    if ((2 * truth - 1) * logits >= 0).all():
        raise ProbeError("No temperature can be fitted: the scores separate the clips entirely.")

    def loss(scale: float) -> float:
        return float(np.mean(np.logaddexp(0, scale * logits) - truth * scale * logits))

    scale = float(1 / np.abs(logits).mean())
    for _ in range(100):
        stated = probabilities(scale * logits / 2)
        slope = float(np.mean((stated - truth) * logits))
        step = slope / float(np.mean(stated * (1 - stated) * logits**2))
        while scale <= step or loss(scale - step) > loss(scale) + 1e-15:
            step /= 2
        scale -= step
        if abs(step) < 1e-9 * scale:
            break
    return 1 / scale


def best_line(scores: ArrayLike, labels: ArrayLike) -> tuple[float, float]:
    """Return the line and unit with the lowest cross-entropy of sigmoid(2 (s - line) / unit).

    The loss is convex in slope and offset; Newton's method with halved steps finds them.

    Raises:
        ProbeError: one class only; or no positive unit is best, because the scores rank clips worse than chance or
            separate them entirely.
    """
    Ranking(scores, labels)
    values, truth = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
    if values[truth == 1].mean() <= values[truth == 0].mean():
        raise ProbeError("No line can be fitted: the scores rank clips no better than chance.")
    if values[truth == 1].min() >= values[truth == 0].max():
        raise ProbeError("No line can be fitted: the scores separate the clips entirely.")
    middle, size = float(values.mean()), float(values.std())
    columns = np.stack([(values - middle) / size, np.ones_like(values)], axis=1)

    def loss(point: Numbers) -> float:
        logits = columns @ point
        return float(np.mean(np.logaddexp(0, logits) - truth * logits))

    point = np.zeros(2)
    for _ in range(100):
        stated = probabilities(columns @ point / 2)
        curvature = columns.T @ (columns * (stated * (1 - stated))[:, None])
        step = np.linalg.solve(curvature, columns.T @ (stated - truth))
        while loss(point - step) > loss(point) + 1e-15:
            step /= 2
        point -= step
        if np.abs(step).max() < 1e-9:
            break
    slope, offset = point.tolist()
    return middle - size * offset / slope, 2 * size / slope
