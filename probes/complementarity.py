"""Do two probes know different things? The correlation of their clip scores, and what each gains by late fusion.

With s_i the scores of probe i for the same test clips and s_ij their fusion:

    correlation[i, j]  of s_i and s_j over clips: Pearson's, or Spearman's (Pearson's of midranks)
    gain[i, j]         (AUC(s_ij) - AUC(s_i)) / AUC(s_i): what row i gains by hearing column j

The fusion is a mean: of the raw scores (``logits``), of the probabilities sigmoid(2s), or of the scores in standard
deviations from their mean over these clips (``standardised``), which keeps a probe of large scores from drowning the
other. The last needs the whole test set at once, so it says how well two probes could be fused rather than how well one
new clip is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfeat.errors import ProbeError
from probes.metrics import Ranking, area

Numbers = NDArray[np.float64]
Correlation = Literal["pearson", "spearman"]
Fusion = Literal["logits", "probabilities", "standardised"]


@dataclass(frozen=True)
class Complementarity:
    """Matrices over ``names``, in their order.

    correlation: float64 [n, n], -1 to 1.
    auc: float64 [n], of each probe alone, 0 to 1.
    gain: float64 [n, n], relative: 0.05 is 5 % of the row's own AUC; 0 on the diagonal.
    clips: how many were scored.
    """

    names: tuple[str, ...]
    correlation: Numbers
    auc: Numbers
    gain: Numbers
    clips: int


def complementarity(
    scores: Mapping[str, ArrayLike],
    labels: ArrayLike,
    correlation: Correlation = "pearson",
    fusion: Fusion = "logits",
) -> Complementarity:
    """Compare probes on one test set.

    Args:
        scores: for each probe's name its raw clip scores [clips], of the same clips in the same order.
        labels: [clips], 0 real, 1 fake.

    Raises:
        ProbeError: unequal numbers of clips, one class only, a probe that gives all clips one score or has an AUC of 0,
            fewer than two probes, or another correlation or fusion than those above.
        NotFiniteError: a score is not finite.
    """
    if correlation not in _CORRELATIONS or fusion not in _FUSIONS:
        offered = f"Correlation is {' or '.join(_CORRELATIONS)}, fusion one of {', '.join(_FUSIONS)}"
        raise ProbeError(f"{offered}; not {correlation!r} and {fusion!r}.")
    if len(scores) < 2:
        raise ProbeError(f"Complementarity needs at least two probes; there is {len(scores)}.")
    names = tuple(scores)
    auc = np.array([_auc(scores[name], labels) for name in names])
    values = np.stack([np.asarray(scores[name], np.float64) for name in names])
    for name, own in zip(names, values, strict=True):
        if own.min() == own.max():
            raise ProbeError(f"{name} gives all {len(own)} clips the same score, so it correlates with nothing.")
    if not auc.all():
        raise ProbeError(f"{names[int(np.argmin(auc))]} has an AUC of 0, so a gain relative to it has no meaning.")
    parts = np.stack([_FUSIONS[fusion](own) for own in values])
    fused = np.array([[_auc((one + other) / 2, labels) for other in parts] for one in parts])
    gain = fused / auc[:, None] - 1
    # A probe fused with itself orders the clips as before, but rounding may tie what was not.
    np.fill_diagonal(gain, 0.0)
    return Complementarity(names, _correlations(values, correlation), auc, gain, values.shape[1])


def _correlations(values: Numbers, kind: Correlation) -> Numbers:
    found: Numbers = np.corrcoef(np.stack([_CORRELATIONS[kind](own) for own in values]))
    return found


def _midranks(values: Numbers) -> Numbers:
    """Return the place of each value in their order, equal ones sharing the mean of their places."""
    ordered = np.sort(values)
    ranks: Numbers = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") + 1) / 2
    return ranks


def _standardised(values: Numbers) -> Numbers:
    scores: Numbers = (values - values.mean()) / values.std()
    return scores


def _probabilities(values: Numbers) -> Numbers:
    return 0.5 * (1 + np.tanh(values))


def _as_they_are(values: Numbers) -> Numbers:
    return values


_CORRELATIONS: Mapping[str, Callable[[Numbers], Numbers]] = {"pearson": _as_they_are, "spearman": _midranks}
_FUSIONS: Mapping[str, Callable[[Numbers], Numbers]] = {
    "logits": _as_they_are,
    "probabilities": _probabilities,
    "standardised": _standardised,
}


def _auc(scores: ArrayLike, labels: ArrayLike) -> float:
    return float(area(Ranking(scores, labels).curve())[0])
