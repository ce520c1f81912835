"""One number with its interval, of a probe that was fitted with several seeds, or the mean of several such numbers.

The number is the mean over seeds. A bootstrap replicate draws clips with replacement and, of the seeds that there are,
as many with replacement; the interval holds the middle 95 % of the replicates, so it is of both clips and seeds. Draws
follow from the clips' ids: tests on the same clips share them, so that the interval of a mean counts them once.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probes.intervals import LEVEL, REPLICATES, Measure, draws
from probes.metrics import METRICS, Ranking


@dataclass(frozen=True)
class Replicated:
    """A metric: its value, and float64 [replicates]; of_seeds are the values of the single seeds."""

    value: float
    replicates: NDArray[np.float64]
    of_seeds: tuple[float, ...] = ()

    @property
    def measure(self) -> Measure:
        """The value with its interval; a replicate in which a class is missing is left out."""
        low, high = np.nanquantile(np.append(self.replicates, self.value), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Measure(self.value, float(low), float(high))


def replicate(
    clip_ids: Sequence[str], labels: NDArray[np.int64], by_seed: NDArray[np.float64], replicates: int = REPLICATES
) -> dict[str, Replicated]:
    """Return auc, ap and eer of clip scores.

    Args:
        clip_ids: of the clips.
        labels: int64 [clips], 1 is fake.
        by_seed: float64 [clips, seeds].
        replicates: how many.

    Raises:
        ProbeError: clips of one class only.
        NotFiniteError: a score is not finite.
    """
    seed = zlib.crc32("\n".join(clip_ids).encode())
    rankings = [Ranking(scores, labels) for scores in by_seed.T]
    drawn: dict[str, list[NDArray[np.float64]]] = {name: [] for name in METRICS}
    for weights in draws(len(clip_ids), None, replicates, seed):
        curves = [ranking.curve(weights) for ranking in rankings]
        for name, metric in METRICS.items():
            drawn[name].append(np.stack([metric(curve) for curve in curves], axis=1))
    chosen = np.random.default_rng([seed, 1]).integers(0, len(rankings), (replicates, len(rankings)))
    found = {}
    for name, metric in METRICS.items():
        values = np.take_along_axis(np.concatenate(drawn[name]), chosen, axis=1).mean(1)
        of_seeds = tuple(float(metric(ranking.curve())[0]) for ranking in rankings)
        found[name] = Replicated(float(np.mean(of_seeds)), values, of_seeds)
    return found


def mean_of(several: Sequence[Mapping[str, Replicated]]) -> dict[str, Replicated]:
    """Return the mean of several tests' metrics, replicate by replicate."""
    return {
        name: Replicated(
            float(np.mean([each[name].value for each in several])),
            np.mean([each[name].replicates for each in several], axis=0),
        )
        for name in METRICS
    }
