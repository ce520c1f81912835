"""Next-token prediction: how surprising each frame is after those before it, learned from real clips only.

With x_t the frame, each feature of it divided by its own norm, and x̂_t what a causal transformer (ntp_network.py) makes
of x_1 … x_{t-1}, a frame's score is the squared error |x̂_t - x_t|², a clip's is their log-sum-exp or another pooling:
higher = less like real speech = more likely fake. The loss is the mean score of the frames, so chance is about 1 for
each feature, whatever its width. No code of the paper's own is published: every choice here is a setting.

A clip longer than ``context`` is read in pieces that overlap by half, so that each frame is predicted from at least
half a context, or from all there is before it; memory stays bounded by one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from avfeat.errors import ProbeError
from probes.featureset import FeatureSet
from probes.fit import PAPER_SEED
from probes.heads.base import Clips
from probes.heads.frames import Place, bounds, held, parts
from probes.heads.neural import NeuralProbe
from probes.heads.ntp_network import CausalTransformer
from probes.heads.training import pick_held_out, real_clips, seeded, take_step, train
from probes.solving import Progress


class NtpProbe(NeuralProbe):
    """A causal transformer over the frames of one feature, or of several side by side.

    Args:
        pool: lse, lse:T, lse-mean, lse-mean:T, max, mean, min or top:K; matters when scoring only, not in training.
        width: of the transformer.
        blocks: how many.
        heads: of attention, in each block.
        context: frames that are read at once, an even number; 1024 are 41 s.
        learning_rate: of AdamW …
        weight_decay: … and its decay.
        warmup: steps in which the learning rate rises to its full height.
        batch: frames a step, padding included; a single piece may be longer.
        epochs: at most so many.
        patience: end so many epochs after the best.
        seed: of the initial weights, the order of the clips, and of those held out when no validation set is given.
        device: a torch device; None: where the frames are.
    """

    kind: ClassVar[str] = "ntp"
    learns_from = "real"
    network_: CausalTransformer

    def __init__(
        self,
        pool: str = "lse",
        width: int = 512,
        blocks: int = 4,
        heads: int = 8,
        context: int = 1024,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.01,
        warmup: int = 200,
        batch: int = 4096,
        epochs: int = 100,
        patience: int = 10,
        seed: int = PAPER_SEED,
        device: str | None = None,
    ):
        self.pool = pool
        self.width = width
        self.blocks = blocks
        self.heads = heads
        self.context = context
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.batch = batch
        self.epochs = epochs
        self.patience = patience
        self.seed = seed
        self.device = device

    def make_network(self, widths: Sequence[int]) -> CausalTransformer:
        """Return the network with fresh weights.

        Raises:
            ProbeError: a width that cannot be cut into the heads, or an odd context.
        """
        if self.context < 2 or self.context % 2:
            raise ProbeError(f"The context is {self.context} frames; it must be an even number above 0.")
        return CausalTransformer(sum(widths), self.width, self.blocks, self.heads)

    def fit(
        self,
        X: Clips,  # noqa: N803
        y: Sequence[int] | NDArray[Any] | None = None,
        validation: FeatureSet | tuple[Clips, Sequence[int]] | None = None,
        tell: Callable[[Progress], None] = lambda progress: None,
    ) -> Self:
        """Fit on the clips labelled 0; arrays without ``y`` are all real.

        Without validation a tenth of the real clips is held out for it.

        Raises:
            ProbeError: no real clip, frames that do not fit each other, or settings that do not.
        """
        data, real = real_clips(X, y, "Training set")
        real, val, held_out = pick_held_out(data, real, validation, self.seed)
        place = self._place(data)
        with seeded(self.seed):
            network = self.make_network(data.widths).to(place)
        optimiser = torch.optim.AdamW(network.parameters(), self.learning_rate, weight_decay=self.weight_decay)
        rising = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, (step + 1) / max(1, self.warmup)))
        generator = torch.Generator().manual_seed(self.seed)

        def walk() -> float:
            total, frames = 0.0, 0
            order = torch.randperm(len(real), generator=generator).tolist()
            for batch in self._batches(data, [real[k] for k in order], place):
                optimiser.zero_grad()
                errors = batch.errors(network)
                torch.autograd.backward(errors.mean())
                take_step(optimiser)
                rising.step()
                total, frames = total + float(errors.detach().sum()), frames + len(errors)
            return total / frames

        def validate() -> float:
            return float(self._errors(network, val, held_out, place).mean())

        facts = train(network, walk, validate, epochs=self.epochs, patience=self.patience, tell=tell)
        facts |= {"seed": self.seed, "real_clips": len(real), "held_out_clips": len(held_out)}
        return self.set_network(network, data.features, data.widths, facts).draw_line(val, held_out)

    def _rows(self, data: FeatureSet) -> Tensor:
        place = self._place(data)
        network = self.network_.to(place)
        scores = self._errors(network, data, range(len(data)), place)
        network.cpu()
        return scores.cpu()

    def _errors(self, network: CausalTransformer, data: FeatureSet, clips: Sequence[int], place: Place) -> Tensor:
        """Return the squared error of each frame of these clips, in order."""
        # Not a list of parts, as in ``score_rows``.
        errors = torch.empty(sum(last - first for first, last in bounds(data, clips)), device=place)
        done = 0
        for batch in self._batches(data, clips, place):
            found = batch.errors(network)
            start, done = done, done + len(found)
            errors[start:done] = found
        return errors

    def _batches(self, data: FeatureSet, clips: Sequence[int], place: Place) -> Iterator[_Batch]:
        """Yield the clips' pieces in order, as many at a time as fit ``batch`` when they are padded."""
        batches = list(self._cut(bounds(data, clips)))
        for pieces in held(data, batches, lambda pieces: [slice(piece.start, piece.stop) for piece in pieces]):
            yield _Batch.read(data, pieces, place)

    def _cut(self, clips: Sequence[tuple[int, int]]) -> Iterator[list[_Piece]]:
        """Yield the pieces of each batch."""
        waiting: list[_Piece] = []
        longest = 0
        for piece in (each for first, last in clips for each in cut(first, last, self.context)):
            longest = max(longest, piece.stop - piece.start)
            if waiting and longest * (len(waiting) + 1) > self.batch:
                yield waiting
                waiting, longest = [], piece.stop - piece.start
            waiting.append(piece)
        if waiting:
            yield waiting


@dataclass(frozen=True)
class _Piece:
    """Rows ``start:stop``, of which those from ``scored`` on are scored here; the others were in the piece before."""

    start: int
    scored: int
    stop: int


@dataclass(frozen=True)
class _Batch:
    """Pieces padded with zeros, float32 [pieces, longest, width]; ``scored``, bool [pieces, longest]."""

    frames: Tensor
    scored: Tensor

    @classmethod
    def read(cls, data: FeatureSet, pieces: Sequence[_Piece], place: Place) -> _Batch:
        rows = [torch.cat(parts(data, slice(piece.start, piece.stop), place), dim=1) for piece in pieces]
        frames = pad_sequence(rows, batch_first=True)
        first = torch.tensor([[piece.scored - piece.start] for piece in pieces], device=frames.device)
        last = torch.tensor([[piece.stop - piece.start] for piece in pieces], device=frames.device)
        at = torch.arange(frames.shape[1], device=frames.device)
        return cls(frames, (at >= first) & (at < last))

    def errors(self, network: CausalTransformer) -> Tensor:
        """Return the squared error of each scored frame, [frames] in order."""
        errors: Tensor = (network(self.frames) - self.frames).square().sum(2)
        return errors[self.scored]


def cut(first: int, last: int, context: int) -> list[_Piece]:
    """Cut a clip of rows ``first:last`` into pieces of at most ``context`` rows that overlap by half."""
    pieces = [_Piece(first, first, min(last, first + context))]
    while pieces[-1].stop < last:
        before = pieces[-1]
        start = before.stop - context // 2
        pieces.append(_Piece(start, before.stop, min(last, start + context)))
    return pieces
