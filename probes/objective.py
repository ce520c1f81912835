"""The loss of K linear probes at once and its gradient, in one pass over the frames.

With a clip's frames x_t divided by their norms, z_t = w·x_t + b, s = pool(z) and the label y:

    loss = cross-entropy over the two logits (-s, +s) = softplus(2s) - 2sy
    dloss/ds = r = 2 (sigmoid(2s) - y)
    dloss/dw = r Σ_t (∂s/∂z_t) x_t,  dloss/db = r

because the derivatives of every pooling sum to 1 over the clip. Nothing is kept but the scores of one block.
Parameters of all probes are one matrix θ [probes, width + 1]: weights, then the bias.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from probes import products
from probes.featureset import FeatureSet
from probes.pooling import Pooling, pool_columns
from probes.ragged import Span


def clip_losses(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of each score [clips, probes] for labels [clips], 0 real and 1 fake."""
    return softplus(2 * scores) - 2 * scores * labels[:, None]


def slopes(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the derivative of ``clip_losses`` by the scores."""
    return 2 * (torch.sigmoid(2 * scores) - labels[:, None])


def frame_scores(rows: Tensor, inverse_norms: Tensor, columns: Sequence[slice], theta: Tensor) -> Tensor:
    """Return z [rows, probes] of raw float32 rows [rows, width]; the norms divide the scores, not the rows."""
    total: Tensor | None = None
    for part, norm in zip(columns, inverse_norms.mT[:, :, None], strict=True):
        scores = products.forward(rows[:, part], theta[:, part]).mul_(norm)
        total = scores if total is None else total.add_(scores)
    assert total is not None
    return total.add_(theta[:, -1])


def add_gradient(
    rows: Tensor, inverse_norms: Tensor, columns: Sequence[slice], derivatives: Tensor, gradient: Tensor
) -> None:
    """Add Σ_t dloss/dz_t · (x_t, 1) to ``gradient`` [probes, width + 1]; ``derivatives`` is [rows, probes]."""
    for part, norm in zip(columns, inverse_norms.mT[:, :, None], strict=True):
        products.backward(rows[:, part], derivatives * norm, gradient[:, part])


def evaluate(
    data: FeatureSet, theta: Tensor, pools: Sequence[Pooling], clip_weights: Tensor, gradient: Tensor | None = None
) -> Tensor:
    """Return the weighted sum of the clips' losses for each probe, float64 [probes].

    Args:
        data: the clips; labels must be known.
        theta: float32 [probes, width + 1].
        pools: one for each probe.
        clip_weights: float32 [clips]; 1/clips each gives the mean.
        gradient: float32 [probes, width + 1], overwritten with the derivative when given.
    """
    labels = data.labels.to(torch.float32)
    loss = torch.zeros(len(theta), dtype=torch.float64, device=data.device)
    if gradient is not None:
        gradient.zero_()
    for span, rows, norms, z in _scored(data, theta):
        own_labels, own_weights = labels[span.first : span.last], clip_weights[span.first : span.last, None]
        scores, shares = pool_columns(span.lay_out(_padded(z)), span.lengths, pools)
        loss += (clip_losses(scores, own_labels) * own_weights).sum(0)
        if gradient is not None:
            slope = slopes(scores, own_labels) * own_weights
            gradient[:, -1] += slope.sum(0)
            add_gradient(rows, norms, data.columns, span.gather(shares * slope[:, None]), gradient)
    return loss


def clip_scores(data: FeatureSet, theta: Tensor, pools: Sequence[Pooling]) -> Tensor:
    """Return s [clips, probes]."""
    scores = theta.new_empty(len(data), len(theta))
    for span, _, _, z in _scored(data, theta):
        scores[span.first : span.last] = pool_columns(span.lay_out(_padded(z)), span.lengths, pools)[0]
    return scores


def all_frame_scores(data: FeatureSet, theta: Tensor) -> Tensor:
    """Return z [rows, probes] of all frames."""
    return torch.cat([z for _, _, _, z in _scored(data, theta)])


def _scored(data: FeatureSet, theta: Tensor) -> Iterator[tuple[Span, Tensor, Tensor, Tensor]]:
    """Yield each block with z [rows, probes] of its rows."""
    with products.threads_for(data.spans[0].rows * theta.numel()):
        for span, rows, norms in data.blocks():
            yield span, rows, norms, frame_scores(rows, norms, data.columns, theta)


def balanced_weights(labels: Tensor, class_weight: str) -> Tensor:
    """Return clip weights that sum to 1: ``none`` gives every clip, ``balanced`` every class the same weight."""
    if class_weight == "none":
        return torch.full(labels.shape, 1 / len(labels), dtype=torch.float32, device=labels.device)
    counts = torch.bincount(labels, minlength=2)
    return (0.5 / counts.to(torch.float32))[labels]


def _padded(scores: Tensor) -> Tensor:
    """Scores with one more row that holds what padding is: -inf."""
    return torch.cat([scores, scores.new_full((1, scores.shape[1]), -torch.inf)])
