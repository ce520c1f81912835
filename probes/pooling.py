"""From frame scores to one clip score, over a padded grid of clips, together with its derivative.

Every pooling here is a weighting of frames whose weights sum to 1, so that adding b to all frames adds b to the clip.
With z the frame scores of one clip of T frames:

    lse        log sum exp z           the paper's: longer clips score higher by up to log T
    lse-mean   log mean exp z          the same without the length
    max, min   the highest, the lowest
    mean       the average
    top:k      the average of the k highest (of all T when T < k)

``lse:t`` and ``lse-mean:t`` are t·log sum exp(z/t): t → 0 is max; the default is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avfeat.errors import ProbeError

Pooled = tuple[Tensor, Tensor]
"""Clip scores [clips, probes] and ∂score/∂frame, the shares [clips, longest, probes]; padding has share 0."""


@dataclass(frozen=True)
class Pooling:
    """A pooling by name; ``number`` is the temperature of lse or the k of top, unused otherwise."""

    name: str = "lse"
    number: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Pooling:
        """Read ``lse``, ``lse:0.5``, ``lse-mean``, ``max``, ``mean``, ``min`` or ``top:5``.

        Raises:
            ProbeError: another word, or a number that does not fit; the message lists those there are.
        """
        name, colon, number = text.partition(":")
        known = "lse, lse:TEMPERATURE, lse-mean, lse-mean:TEMPERATURE, max, mean, min, top:K"
        takes_number = name in ("lse", "lse-mean", "top")
        if name not in _POOLS or (colon and not takes_number) or (name == "top" and not colon):
            raise ProbeError(f"There is no pooling {text!r}; choose from {known}.")
        try:
            value = float(number) if colon else 1.0
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf") or (name == "top" and value != int(value)):
            raise ProbeError(f"Pooling {text!r}: the number after the colon must be above 0, and whole for top.")
        return cls(name, value)

    def __str__(self) -> str:
        return self.name if self.number == 1.0 and self.name != "top" else f"{self.name}:{self.number:g}"

    def pool(self, grid: Tensor, lengths: Tensor) -> Pooled:
        """Pool frame scores.

        Args:
            grid: float [clips, longest, probes]; entries beyond a clip's length must be -inf.
            lengths: int64 [clips], each at least 1.
        """
        return _POOLS[self.name](grid, lengths, self.number)


def pool_columns(grid: Tensor, lengths: Tensor, pools: Sequence[Pooling]) -> Pooled:
    """Pool each column (probe) of ``grid`` by its own entry of ``pools``; columns that agree are pooled together."""
    distinct = list(dict.fromkeys(pools))
    if len(distinct) == 1:
        return distinct[0].pool(grid, lengths)
    scores = grid.new_empty(grid.shape[0], grid.shape[2])
    shares = torch.empty_like(grid)
    for pooling in distinct:
        columns = torch.tensor([k for k, other in enumerate(pools) if other == pooling], device=grid.device)
        scores[:, columns], shares[:, :, columns] = pooling.pool(grid[:, :, columns], lengths)
    return scores, shares


def _lse(grid: Tensor, lengths: Tensor, temperature: float) -> Pooled:
    # Fewer passes than logsumexp and softmax: a clip has a frame, so its highest score is finite.
    highest = grid.amax(1, keepdim=True)
    shares = grid - highest
    if temperature != 1.0:
        shares /= temperature
    total = shares.exp_().sum(1, keepdim=True)
    return (highest + (total.log() if temperature == 1.0 else temperature * total.log())).squeeze(1), shares.div_(total)


def _lse_mean(grid: Tensor, lengths: Tensor, temperature: float) -> Pooled:
    scores, shares = _lse(grid, lengths, temperature)
    return scores - temperature * lengths.to(grid.dtype).log()[:, None], shares


def _max(grid: Tensor, lengths: Tensor, number: float) -> Pooled:
    scores, frames = grid.max(1)
    return scores, torch.zeros_like(grid).scatter_(1, frames[:, None], 1.0)


def _min(grid: Tensor, lengths: Tensor, number: float) -> Pooled:
    scores, frames = grid.masked_fill(_padding(grid, lengths), torch.inf).min(1)
    return scores, torch.zeros_like(grid).scatter_(1, frames[:, None], 1.0)


def _mean(grid: Tensor, lengths: Tensor, number: float) -> Pooled:
    padding = _padding(grid, lengths)
    count = lengths.to(grid.dtype)
    shares = (~padding / count[:, None, None]).expand_as(grid)
    return grid.masked_fill(padding, 0.0).sum(1) / count[:, None], shares


def _top(grid: Tensor, lengths: Tensor, number: float) -> Pooled:
    count = lengths.clamp(max=int(number))
    highest, frames = grid.topk(min(int(number), grid.shape[1]), dim=1)
    beyond = _padding(highest, count)
    share = (~beyond / count.to(grid.dtype)[:, None, None]).expand_as(highest)
    scores = (highest.masked_fill(beyond, 0.0) * share).sum(1)
    return scores, torch.zeros_like(grid).scatter_(1, frames, share)


def _padding(grid: Tensor, lengths: Tensor) -> Tensor:
    """Bool [clips, longest, 1]: true beyond a clip's length."""
    return (torch.arange(grid.shape[1], device=grid.device) >= lengths[:, None])[:, :, None]


_POOLS: dict[str, Callable[[Tensor, Tensor, float], Pooled]] = {
    "lse": _lse,
    "lse-mean": _lse_mean,
    "max": _max,
    "mean": _mean,
    "min": _min,
    "top": _top,
}
