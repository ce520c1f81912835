"""The loss of K linear probes at once and its gradient, in one pass over the frames.

With a clip's frames x_t divided by their norms, z_t = w·x_t + b, s = pool(z) and the label y:

    loss = cross-entropy over the two logits (-s, +s) = softplus(2s) - 2sy
    dloss/ds = r = 2 (sigmoid(2s) - y)
    dloss/dw = r Σ_t (∂s/∂z_t) x_t,  dloss/db = r

because the derivatives of every pooling sum to 1 over the clip. Nothing is kept but the scores of one block.
Parameters of all probes are one matrix θ [probes, width + 1]: weights, then the bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from probes import processor
from probes.cores import pieces, spread
from probes.featureset import FeatureSet
from probes.pooling import Pooling, pool_columns
from probes.ragged import Span


def clip_losses(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of each score [clips, probes] for labels [clips], 0 real and 1 fake."""
    return softplus(2 * scores) - 2 * scores * labels[:, None]


def frame_scores(rows: Tensor, inverse_norms: Tensor, columns: Sequence[slice], theta: Tensor) -> Tensor:
    """Return z [rows, probes] of raw float32 rows [rows, width]; the norms divide the scores, not the rows."""
    total = theta[:, -1].expand(len(rows), -1)
    for part, norm in zip(columns, inverse_norms.mT[:, :, None], strict=True):
        total = (rows[:, part] @ theta[:, part].T).mul_(norm).add_(total)
    return total


def add_gradient(
    rows: Tensor, inverse_norms: Tensor, columns: Sequence[slice], derivatives: Tensor, gradient: Tensor
) -> None:
    """Add Σ_t dloss/dz_t · (x_t, 1) to ``gradient`` [probes, width + 1]; ``derivatives`` is [rows, probes]."""
    for part, norm in zip(columns, inverse_norms.mT[:, :, None], strict=True):
        gradient[:, part].addmm_((derivatives * norm).T, rows[:, part])


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
    doubled = 2 * clip_weights
    scores = theta.new_empty(len(data), len(theta))
    parts = _pass(data, theta, pools, doubled, scores, gradient is not None)
    if gradient is not None:
        torch.sum(torch.stack(parts), dim=0, out=gradient)
        gradient[:, -1] = _slopes(scores, data.labels.float()[:, None], doubled[:, None]).sum(0)
    return (clip_losses(scores, data.labels) * clip_weights[:, None]).sum(0, dtype=torch.float64)


def clip_scores(data: FeatureSet, theta: Tensor, pools: Sequence[Pooling]) -> Tensor:
    """Return s [clips, probes]."""
    scores = theta.new_empty(len(data), len(theta))
    _pass(data, theta, pools, torch.zeros_like(scores[:, 0]), scores, False)
    return scores


def all_frame_scores(data: FeatureSet, theta: Tensor) -> Tensor:
    """Return z [rows, probes] of all frames."""
    return torch.cat([frame_scores(rows, norms, data.columns, theta) for _, rows, norms in data.blocks(data.spans)])


def _slopes(scores: Tensor, labels: Tensor, doubled: Tensor) -> Tensor:
    """dloss/ds times the clips' weights, all [clips, …]; ``doubled`` is twice the weights."""
    return torch.sigmoid(scores + scores).sub_(labels).mul_(doubled)


def _pass(
    data: FeatureSet, theta: Tensor, pools: Sequence[Pooling], doubled: Tensor, scores: Tensor, with_gradient: bool
) -> list[Tensor]:
    """Fill ``scores``; return the shares of the gradient, one of each core, in the order of the blocks."""
    evaluator = processor.evaluator if data.device.type == "cpu" else general_evaluator
    work = evaluator(data, theta.contiguous(), pools, doubled, scores, with_gradient)
    return spread(work, data.runs(pieces(data.device)))


def general_evaluator(
    data: FeatureSet, theta: Tensor, pools: Sequence[Pooling], doubled: Tensor, scores: Tensor, with_gradient: bool
) -> Callable[[Sequence[Span]], Tensor]:
    """Return what ``processor.evaluator`` returns, for any device."""
    labels = data.labels.float()[:, None]

    def work(spans: Sequence[Span]) -> Tensor:
        own = torch.zeros_like(theta)
        for span, rows, norms in data.blocks(spans):
            clips = slice(span.first, span.last)
            z = frame_scores(rows, norms, data.columns, theta)
            scores[clips], shares = pool_columns(span.lay_out(z), span.lengths, pools)
            if with_gradient:
                slope = _slopes(scores[clips], labels[clips], doubled[clips, None])
                add_gradient(rows, norms, data.columns, span.gather(shares * slope[:, None]), own)
        return own

    return work


def balanced_weights(labels: Tensor, class_weight: str) -> Tensor:
    """Return clip weights that sum to 1: ``none`` gives every clip, ``balanced`` every class the same weight."""
    if class_weight == "none":
        return torch.full(labels.shape, 1 / len(labels), dtype=torch.float32, device=labels.device)
    counts = torch.bincount(labels, minlength=2)
    return (0.5 / counts.to(torch.float32))[labels]
