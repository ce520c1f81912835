"""Bootstrap intervals: the metrics of many draws of the clips, or of the speakers, with replacement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probes.metrics import METRICS, Ranking, metrics_named

REPLICATES = 1000
LEVEL = 0.95
CELLS_AT_ONCE = 4_000_000
"""Draws are made in blocks of about 32 MB."""


@dataclass(frozen=True)
class Measure:
    """A metric on one test set, with the interval that holds the middle 95 % of the replicates."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True)
class Spread:
    """The mean of a metric over probes that differ in their seed, and its interval as of a Measure.

    sd: of the probes' own values, n - 1 below the line; None of a single probe.
    """

    mean: float
    sd: float | None
    low: float
    high: float

    def __str__(self) -> str:
        spread = "" if self.sd is None else f" ± {self.sd:.4f}"
        return f"{self.mean:.4f}{spread} [{self.low:.4f}, {self.high:.4f}]"


def measure(
    scores: ArrayLike,
    labels: ArrayLike,
    names: Sequence[str] = tuple(METRICS),
    *,
    groups: Sequence[str | None] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Measure]:
    """Return each metric with its interval.

    Args:
        scores, labels: [clips]; label 1 is fake.
        names: auc, ap, eer, tpr@X.
        groups: draw whole groups, e.g. speakers, in place of clips; None marks a clip that is a group of its own.
        replicates: those in which a class is missing are left out.

    Raises:
        ProbeError: unknown metric, or clips of one class only.
    """
    found = spread(np.asarray(scores)[:, None], labels, names, groups=groups, replicates=replicates, seed=seed)
    return {name: Measure(each.mean, each.low, each.high) for name, each in found.items()}


def spread(
    scores: ArrayLike,
    labels: ArrayLike,
    names: Sequence[str] = tuple(METRICS),
    *,
    groups: Sequence[str | None] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Spread]:
    """Return each metric's mean over probes, with its interval: each replicate draws the same clips for all probes.

    Args:
        scores: [clips, probes]; the rest as of ``measure``.

    Raises:
        ProbeError: unknown metric, or clips of one class only.
    """
    columns = np.asarray(scores).T
    rankings = [Ranking(column, labels) for column in columns]
    metrics = metrics_named(tuple(names))
    drawn: dict[str, list[NDArray[np.float64]]] = {name: [] for name in metrics}
    for weights in draws(columns.shape[1], groups, replicates, seed):
        total = {name: np.zeros(len(weights)) for name in metrics}
        for ranking in rankings:
            curve = ranking.curve(weights)
            for name, metric in metrics.items():
                total[name] += metric(curve)
        for name in metrics:
            drawn[name].append(total[name] / len(rankings))
    found = {}
    for name, metric in metrics.items():
        own = np.concatenate([metric(ranking.curve()) for ranking in rankings])
        low, high = np.nanquantile(np.concatenate([*drawn[name], [own.mean()]]), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        sd = float(own.std(ddof=1)) if len(own) > 1 else None
        found[name] = Spread(float(own.mean()), sd, float(low), float(high))
    return found


def difference(
    first: ArrayLike,
    second: ArrayLike,
    labels: ArrayLike,
    names: Sequence[str] = tuple(METRICS),
    *,
    groups: Sequence[str | None] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Measure]:
    """Return each metric of ``first`` less that of ``second``, whose interval draws the same clips for both.

    Args:
        first, second: [clips], the scores of two probes; the rest as of ``measure``.

    Raises:
        ProbeError: unknown metric, or clips of one class only.
    """
    one, other = Ranking(first, labels), Ranking(second, labels)
    metrics = metrics_named(tuple(names))
    drawn: dict[str, list[NDArray[np.float64]]] = {name: [] for name in metrics}
    for weights in chain(draws(len(np.asarray(labels)), groups, replicates, seed), [None]):
        curves = one.curve(weights), other.curve(weights)
        for name, metric in metrics.items():
            drawn[name].append(metric(curves[0]) - metric(curves[1]))
    found = {}
    for name, parts in drawn.items():
        low, high = np.nanquantile(np.concatenate(parts), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        found[name] = Measure(float(parts[-1][0]), float(low), float(high))
    return found


def draws(clips: int, groups: Sequence[str | None] | None, replicates: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield blocks of how often each replicate drew each clip, float64 [replicates of the block, clips]."""
    rng = np.random.default_rng(seed)
    members = np.arange(clips) if groups is None else _numbered(groups)
    count = int(members.max()) + 1
    step = max(1, CELLS_AT_ONCE // clips)
    for start in range(0, replicates, step):
        block = min(step, replicates - start)
        chosen = rng.integers(0, count, (block, count)) + np.arange(block)[:, None] * count
        times = np.bincount(chosen.ravel(), minlength=block * count).reshape(block, count)
        yield times[:, members].astype(np.float64)


def _numbered(groups: Sequence[str | None]) -> NDArray[np.int64]:
    """Number the groups from 0; each None is one of its own."""
    numbers: dict[object, int] = {}
    keys = [("", k) if group is None else group for k, group in enumerate(groups)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys])
