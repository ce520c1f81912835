"""Linear probes on a processor: what objective.py and adam.py do on a GPU, by the compiled loops of kernels.py.

A single probe goes through the rows of each clip as they are stored. Several share rows that are converted and divided
by their norms once, a block at a time that stays in the cache, and leave the products to PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avfeat.errors import ProbeError
from probes.featureset import FeatureSet
from probes.pooling import Pooling
from probes.ragged import Span

if TYPE_CHECKING:
    from probes.adam import Adam

Floats = NDArray[np.float32]

MANY = 16
"""Probes from which a product is faster with the weights as columns.

Measured on one core with the BLAS of PyTorch's wheels on x86, 160 rows of 1024, in 10⁹ operations a second: for 2, 4, 8
and 16 probes weights · rowsᵀ reach 90, 110, 122 and 45, rows · weightsᵀ with the weights as columns 16, 32, 62 and 134,
for 32 probes 49 and 164; large square matrices 150.
"""


@cache
def loops() -> ModuleType:
    """Return kernels.py: importing numba takes half a second, which a command without a fit need not wait.

    Raises:
        ProbeError: numba finds no folder where it can keep what it compiles.
    """
    try:
        from probes import kernels
    except RuntimeError as error:
        raise ProbeError(
            f"Compiled loops cannot be kept anywhere ({error}): set NUMBA_CACHE_DIR to a folder that can be written to."
        ) from error
    return kernels


class Arrays:
    """A FeatureSet as the arrays that kernels.py reads; nothing is copied.

    doubled: float32 [clips], twice the clips' weights.
    """

    def __init__(self, data: FeatureSet, doubled: Tensor):
        half = data.frames.dtype == torch.float16
        self.frames = (data.frames.view(torch.uint16) if half else data.frames).numpy()
        self.norms: Floats = data.inverse_norms.numpy()
        self.bounds = np.cumsum([0, *data.widths])
        self.offsets = data.offsets.numpy()
        self.labels: Floats = data.labels.float().numpy()
        self.doubled: Floats = doubled.numpy()

    def buffer(self) -> Tensor:
        """Return float32 rows for the longest clip."""
        return torch.empty(int(np.diff(self.offsets).max()), self.frames.shape[1])

    def normalised(self, rows: slice, following: slice, buffer: Tensor) -> Tensor:
        """Return ``rows`` divided by their norms, in ``buffer``; ask for the ``following`` ones meanwhile."""
        block = buffer[: rows.stop - rows.start]
        loops().normalise(self.frames[rows], self.norms[rows], self.bounds, self.frames[following], block.numpy())
        return block

    def pool(self, z: Tensor, clips: slice, pooled: Pools, theta: Tensor, scores: Floats, slopes: Floats) -> None:
        """Pool frame scores without biases z [probes, rows], which become dloss/dz; see ``kernels.pool_block``."""
        offsets, labels, doubled = self.offsets[clips.start : clips.stop + 1], self.labels[clips], self.doubled[clips]
        loops().pool_block(
            z.numpy(), offsets, labels, doubled, pooled.kinds, pooled.numbers, theta.numpy(), scores, slopes
        )


class Pools:
    """Poolings as the numbers that kernels.py reads, one of each for each probe."""

    def __init__(self, pools: Sequence[Pooling]):
        self.kinds = np.array([loops().KINDS[each.name] for each in pools])
        self.numbers = np.array([each.number for each in pools], np.float32)


def evaluator(
    data: FeatureSet, theta: Tensor, pools: Sequence[Pooling], doubled: Tensor, scores: Tensor, with_gradient: bool
) -> Callable[[Sequence[Span]], Tensor]:
    """Return what evaluates the clips of some spans: it fills their ``scores`` and returns their share of the gradient.

    Args:
        theta: float32 [probes, width + 1].
        doubled: float32 [clips], twice the clips' weights.
        scores: float32 [clips, probes].
        with_gradient: without, the gradient stays 0; the derivative of the bias is left alone in any case.
    """
    kernels = loops()
    arrays, pooled, out = Arrays(data, doubled), Pools(pools), scores.numpy()

    def one(spans: Sequence[Span]) -> Tensor:
        gradient = torch.zeros_like(theta)
        for window in data.windows(spans):
            clips, rows = slice(window[0].first, window[-1].last), slice(window[0].start, window[-1].stop)
            kernels.evaluate(
                arrays.frames[rows],
                arrays.norms[rows],
                arrays.bounds,
                arrays.offsets[clips.start : clips.stop + 1] - rows.start,
                arrays.labels[clips],
                arrays.doubled[clips],
                pooled.kinds[0],
                pooled.numbers[0],
                theta[0].numpy(),
                with_gradient,
                out.reshape(-1)[clips],
                gradient[0].numpy(),
            )
        return gradient

    def several(spans: Sequence[Span]) -> Tensor:
        gradient, slopes = torch.zeros_like(theta), np.empty_like(out)
        buffer, score = torch.empty(max(span.rows for span in spans), data.width), _scorer(theta)
        for span in (span for window in data.windows(spans) for span in window):
            clips = slice(span.first, span.last)
            block = arrays.normalised(slice(span.start, span.stop), slice(span.stop, span.stop + span.rows), buffer)
            z = score(block)
            arrays.pool(z, clips, pooled, theta, out[clips], slopes[clips])
            if with_gradient:
                gradient[:, :-1].addmm_(z, block)
        return gradient

    return one if len(theta) == 1 else several


def walk(
    data: FeatureSet,
    order: Sequence[int],
    adam: Adam,
    pools: Sequence[Pooling],
    weight_decay: Tensor,
    clip_weights: Tensor,
) -> None:
    """Take one step of Adam for each clip of ``order``; the arguments are those of ``probes.adam.epoch``."""
    arrays, pooled, steps = Arrays(data, 2 * clip_weights), Pools(pools), adam.steps
    work = _walk_one if len(adam.theta) == 1 else _walk_several
    for clips in data.clip_windows(order):
        work(arrays, np.array(clips), adam, pooled, weight_decay.numpy(), steps)
        steps += len(clips)


def _walk_one(arrays: Arrays, order: NDArray[np.int64], adam: Adam, pooled: Pools, decay: Floats, steps: int) -> None:
    loops().walk(
        arrays.frames,
        arrays.norms,
        arrays.bounds,
        arrays.offsets,
        order,
        arrays.labels,
        arrays.doubled,
        pooled.kinds[0],
        pooled.numbers[0],
        decay[0],
        adam.theta[0].numpy(),
        adam.mean[0].numpy(),
        adam.square[0].numpy(),
        adam.settings,
        steps,
    )


def _walk_several(
    arrays: Arrays, order: NDArray[np.int64], adam: Adam, pooled: Pools, decay: Floats, steps: int
) -> None:
    kernels = loops()
    gradient, buffer = torch.empty_like(adam.theta), arrays.buffer()
    theta, begun = adam.theta.numpy(), gradient.numpy()
    flat = [each.view(-1).numpy() for each in (adam.theta, gradient, adam.mean, adam.square)]
    scores, slopes = np.empty((1, len(theta)), np.float32), np.empty((1, len(theta)), np.float32)
    starts = arrays.offsets.tolist()
    clips = order.tolist()
    for number, (clip, coming) in enumerate(zip(clips, [*clips[1:], clips[-1]], strict=True), steps + 1):
        rows, following = slice(starts[clip], starts[clip + 1]), slice(starts[coming], starts[coming + 1])
        block = arrays.normalised(rows, following, buffer)
        z = _scorer(adam.theta)(block)
        arrays.pool(z, slice(clip, clip + 1), pooled, adam.theta, scores, slopes)
        kernels.begin_all(begun, theta, decay, slopes[0])
        gradient[:, :-1].addmm_(z, block)
        kernels.step(*flat, adam.settings, number)


def _scorer(theta: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function from rows [n, width] to their scores without the biases, contiguous [probes, n]."""
    weights = theta[:, :-1]
    if len(weights) < MANY:
        return lambda rows: weights @ rows.T
    columns = weights.T.contiguous()
    return lambda rows: (rows @ columns).T.contiguous()
