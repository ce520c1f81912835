"""How well clip scores tell fake (1) from real (0), for many weightings of the same clips at once.

The clips are sorted once; a weighting (how often a bootstrap replicate drew each clip) then costs two running sums.
With P and N the weights of fake and real clips, TP and FP those at or above a threshold, one point per distinct score:

    AUC          area under TP/P over FP/N, trapezoids
    AP           Σ ΔTP/P · TP/(TP+FP), no interpolation
    EER          where FP/N meets 1 - TP/P, straight lines between points
    TPR@x        the highest TP/P among the points with FP/N at most x

AUC and AP agree with scikit-learn's roc_auc_score and average_precision_score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfeat.errors import NotFiniteError, ProbeError

Numbers = NDArray[np.float64]
Curve = tuple[Numbers, Numbers]
"""TP and FP, float64 [weightings, points], both beginning with 0 and ending with P and N."""


class Ranking:
    """Clips in the order of their scores, highest first.

    Raises:
        ProbeError: unequal numbers, a label besides 0 and 1, or one class only.
        NotFiniteError: a score is not finite.
    """

    def __init__(self, scores: ArrayLike, labels: ArrayLike):
        values, truth = np.asarray(scores, np.float64), np.asarray(labels)
        if values.ndim != 1 or values.shape != truth.shape:
            raise ProbeError(f"{values.shape} scores do not fit {truth.shape} labels.")
        if not np.isfinite(values).all():
            raise NotFiniteError(f"Score {int(np.argmin(np.isfinite(values)))} is not finite.")
        if not np.isin(truth, (0, 1)).all():
            raise ProbeError("Only clips labelled 0 (real) or 1 (fake) can be ranked.")
        if len(np.unique(truth)) < 2:
            raise ProbeError(f"Real and fake clips are both needed; there are {len(truth)} of one class.")
        self._order = np.argsort(-values, kind="stable")
        ordered = values[self._order]
        self._ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
        self._fake = truth[self._order].astype(np.float64)

    def curve(self, weights: ArrayLike | None = None) -> Curve:
        """Return TP and FP; ``weights`` is [clips] or [weightings, clips], by default 1 for each clip."""
        drawn = np.ones((1, len(self._order))) if weights is None else np.atleast_2d(np.asarray(weights, np.float64))
        drawn = drawn[:, self._order]
        total = np.cumsum(drawn, axis=1)[:, self._ends]
        drawn *= self._fake
        fakes = np.cumsum(drawn, axis=1)[:, self._ends]
        start = np.zeros((len(drawn), 1))
        return np.hstack([start, fakes]), np.hstack([start, total - fakes])


def area(curve: Curve) -> Numbers:
    """Return the AUC of each weighting, NaN where a class has no weight."""
    fakes, reals = curve
    trapezoids = np.diff(reals, axis=1) * (fakes[:, 1:] + fakes[:, :-1]) / 2
    return _share(trapezoids.sum(1), fakes[:, -1] * reals[:, -1])


def average_precision(curve: Curve) -> Numbers:
    """Return the AP of each weighting, NaN where a class has no weight."""
    fakes, reals = curve
    precision = _share(fakes, fakes + reals, empty=0.0)[:, 1:]
    return _share((np.diff(fakes, axis=1) * precision).sum(1), fakes[:, -1] * (reals[:, -1] > 0))


def equal_error_rate(curve: Curve) -> Numbers:
    """Return the EER of each weighting, NaN where a class has no weight."""
    fakes, reals = curve
    alarms, misses = _share(reals, reals[:, -1:]), 1 - _share(fakes, fakes[:, -1:])
    gap = alarms - misses
    at = np.argmax(gap >= 0, axis=1)[:, None]
    # The curve starts at gap -1, so the crossing has a point before it.
    before, after = (np.take_along_axis(gap, k, axis=1) for k in (np.maximum(at - 1, 0), at))
    share = _share(-before, after - before, empty=0.0)
    low, high = (np.take_along_axis(alarms, k, axis=1) for k in (np.maximum(at - 1, 0), at))
    rates: Numbers = (low + share * (high - low))[:, 0]
    return rates


def sensitivity(curve: Curve, alarms: float) -> Numbers:
    """Return the TPR of each weighting at a false positive rate of at most ``alarms``."""
    fakes, reals = curve
    allowed = _share(reals, reals[:, -1:]) <= alarms
    return _share(np.where(allowed, fakes, 0.0).max(1), fakes[:, -1] * (reals[:, -1] > 0))


Metric = Callable[[Curve], Numbers]
METRICS: Mapping[str, Metric] = {"auc": area, "ap": average_precision, "eer": equal_error_rate}
"""The metrics that every table has."""


def metrics_named(names: tuple[str, ...]) -> dict[str, Metric]:
    """Return metrics by name: auc, ap, eer, and tpr@X for any X between 0 and 1, e.g. tpr@0.01.

    Raises:
        ProbeError: another name.
    """
    return {name: _metric(name) for name in names}


def _metric(name: str) -> Metric:
    if name in METRICS:
        return METRICS[name]
    kind, _, number = name.partition("@")
    try:
        alarms = float(number) if kind == "tpr" else -1.0
    except ValueError:
        alarms = -1.0
    if not 0 <= alarms <= 1:
        raise ProbeError(f"There is no metric {name!r}; choose from {', '.join(METRICS)}, tpr@X with X from 0 to 1.")
    return partial(sensitivity, alarms=alarms)


def _share(part: Any, whole: Any, empty: float = np.nan) -> Numbers:
    """Divide; where the whole is 0, ``empty``."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    shares: Numbers = np.divide(part, whole, out=np.full(part.shape, empty), where=whole != 0)
    return shares
