"""Linear probes on a processor: what objective.py and adam.py do on a GPU, by the compiled loops of ``probes.loops``.

A single probe goes through the rows of each clip as they are stored. Several share rows that are converted and divided
by their norms once, a block at a time that stays in the cache.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import pairwise
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avfeat.errors import ProbeError
from probes.cores import pieces, spread
from probes.featureset import FeatureSet
from probes.loops.records import Clips, Pools, Room, Settings, State
from probes.pooling import Pooling
from probes.ragged import Span

if TYPE_CHECKING:
    from probes.adam import Adam

SHARED_BYTES = 20_000
"""Clips of this mean size are worth two threads, which wait for each other at every step.

Measured on two cores: an epoch over clips of 100 frames of 64 numbers (13 kB) took 0.74 of the time that one thread
took for one probe, 1.1 for 32 probes; of 160 frames of 256 numbers (82 kB) 0.90 and 0.84.
"""

AT_ONCE = 4096
"""Clips between which Ctrl-C is heard: some tenths of a second."""


class Loops(NamedTuple):
    """The modules of ``probes.loops`` that are called from here."""

    single: ModuleType
    several: ModuleType
    crew: ModuleType
    pools: ModuleType
    products: ModuleType


@cache
def loops() -> Loops:
    """Return the compiled loops: importing numba takes half a second, which a command without a fit need not wait.

    Raises:
        ProbeError: numba finds no folder where it can keep what it compiles.
    """
    try:
        from probes.loops import crew, pools, products, several, single
    except RuntimeError as error:
        raise ProbeError(
            f"Compiled loops cannot be kept anywhere ({error}): set NUMBA_CACHE_DIR to a folder that can be written to."
        ) from error
    return Loops(single, several, crew, pools, products)


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
    clips, pooled, out = _clips(data, doubled), _pools(pools), scores.numpy()

    def one(spans: Sequence[Span]) -> Tensor:
        room, gradient = _room(data, 1), torch.zeros_like(theta)
        own = pooled, theta[0].numpy(), with_gradient, out, gradient[0].numpy(), room
        loops().single.evaluate(clips, spans[0].first, spans[-1].last, *own)
        return gradient

    def several(spans: Sequence[Span]) -> Tensor:
        room, columns = _room(data, len(theta)), _columns(theta)
        gradient = torch.zeros_like(columns)
        own = pooled, columns.numpy(), with_gradient, out, gradient.numpy(), room
        loops().several.evaluate(clips, spans[0].first, spans[-1].last, *own)
        return gradient.T[: len(theta), : data.width + 1]

    def work(spans: Sequence[Span]) -> Tensor:
        gradient = one(spans) if len(theta) == 1 else several(spans)
        _check_reading(clips)
        return gradient

    return work


def walk(
    data: FeatureSet,
    order: Sequence[int],
    adam: Adam,
    pools: Sequence[Pooling],
    weight_decay: Tensor,
    clip_weights: Tensor,
) -> None:
    """Take one step of Adam for each clip of ``order``; the arguments are those of ``probes.adam.epoch``.

    Two cores share the rows of each clip; where there are more, probes are shared out to every two of them.
    """
    crew, threads = loops().crew, pieces(data.device)
    together = min(threads, crew.SHARES) if data.frames.nbytes >= SHARED_BYTES * len(data) else 1
    count = len(adam.theta)
    groups = max(1, min(threads // together, count))
    edges = [count * group // groups for group in range(groups + 1)]
    walkers = [_Walker(data, adam, pools, weight_decay, clip_weights, slice(*edge)) for edge in pairwise(edges)]
    for start in range(0, len(order), AT_ONCE):
        clips = np.array(order[start : start + AT_ONCE])
        spread(lambda work: work(), [work for walker in walkers for work in walker.works(clips, together)])
    for walker in walkers:
        walker.end()
    adam.steps += len(order)


class _Walker:
    """Walks through clips with some of the probes."""

    def __init__(
        self,
        data: FeatureSet,
        adam: Adam,
        pools: Sequence[Pooling],
        weight_decay: Tensor,
        clip_weights: Tensor,
        probes: slice,
    ):
        self._clips = _clips(data, 2 * clip_weights)
        self._pools = _pools(pools[probes])
        self._settings = Settings(adam.settings, weight_decay[probes].numpy(), adam.steps)
        self._states = [each[probes] for each in (adam.theta, adam.mean, adam.square)]
        self._alone = len(self._states[0]) == 1
        self._work = [each[0] if self._alone else _columns(each) for each in self._states]
        self._room = _room(data, len(self._states[0]))

    def works(self, order: NDArray[np.int64], threads: int) -> list[Callable[[], None]]:
        """Return what so many threads are to do, to walk through the clips of ``order`` together."""
        board = torch.zeros(loops().crew.BOARD, dtype=torch.int64).numpy()
        state, settings = State(*(each.numpy() for each in self._work)), self._settings
        self._settings = settings._replace(steps=settings.steps + len(order))
        shared: Any = self._pools, state, settings, self._room
        module, helping = loops().several, shared
        if self._alone:
            module, helping = loops().single, (state.theta, self._room)

        def lead() -> None:
            try:
                module.walk(board, self._clips, order, *shared)
            finally:
                loops().crew.end(board)

        helpers = range(1, threads)
        return [lead, *(partial(module.help_walk, board, helper, self._clips, order, *helping) for helper in helpers)]

    def end(self) -> None:
        """Write the probes' state back to where it came from."""
        _check_reading(self._clips)
        if not self._alone:
            for state, columns in zip(self._states, self._work, strict=True):
                state.copy_(columns.T[: len(state), : state.shape[1]])


def _clips(data: FeatureSet, doubled: Tensor) -> Clips:
    """Return a FeatureSet as the loops read it; nothing is copied."""
    on_disk = [-1, 0] if data.file is None else [data.file.descriptor, data.file.begin(data.frames)]
    return Clips(
        file=np.array([*on_disk, 0]),
        frames=_numbers(data.frames),
        norms=data.inverse_norms.numpy(),
        bounds=np.cumsum([0, *data.widths]),
        offsets=data.offsets.numpy(),
        labels=data.labels.float().numpy(),
        doubled=doubled.numpy(),
    )


def _pools(pools: Sequence[Pooling]) -> Pools:
    kinds = loops().pools.KINDS
    return Pools(np.array([kinds[each.name] for each in pools]), np.array([each.number for each in pools], np.float32))


# What PyTorch makes begins with a line of the cache, so that no register is read from two of them.


def _room(data: FeatureSet, probes: int) -> Room:
    """Return room for the longest clip, filled with zeros."""
    crew, products = loops().crew, loops().products
    longest, width = int(data.offsets.diff().max()), data.width
    if probes == 1:
        rows, z, form = torch.zeros(0, 0), torch.zeros(longest), [width + 1]
    else:
        form = [_up(width + 1, products.ROWS), _up(probes, products.NARROW)]
        tall = _up(longest, products.ROWS)
        # An odd number of lines from row to row: else a column of rows would have only a few places of the cache.
        rows, z = torch.zeros(tall, _up(width, 32) + 16), torch.zeros(tall, form[1])
    buffer = torch.empty(longest if data.file else 0, width, dtype=data.frames.dtype)
    return Room(
        buffer=_numbers(buffer),
        rows=rows.numpy(),
        z=z.numpy(),
        parts=torch.zeros(crew.SHARES, *form).numpy(),
        slopes=np.zeros(probes, np.float32),
    )


def _numbers(frames: Tensor) -> NDArray[Any]:
    """Frames as the loops read them: of float16 the bits."""
    return (frames.view(torch.uint16) if frames.dtype == torch.float16 else frames).numpy()


def _check_reading(clips: Clips) -> None:
    if clips.file[2]:  # FAILURES in fetching.py
        raise ProbeError(
            f"Frames that were put by in {tempfile.gettempdir()} cannot be read any more: look at that disk, or set "
            "TMPDIR to a folder on another one."
        )


def _columns(theta: Tensor) -> Tensor:
    """Return parameters [probes, parameters] as the columns that several.py reads."""
    products = loops().products
    columns = torch.zeros(_up(theta.shape[1], products.ROWS), _up(len(theta), products.NARROW))
    columns[: theta.shape[1], : len(theta)] = theta.T
    return columns


def _up(number: int, step: int) -> int:
    """The next multiple of ``step``."""
    return -(-number // step) * step
