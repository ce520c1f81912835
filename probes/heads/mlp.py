"""The supervised network of AVH-Align (AVH-Align/sup): z_t = MLP(x_t/|x_t|), s = pool(z), higher = more likely fake.

The network is that of network.py: one projection for each feature, side by side, then three hidden layers. Training is
the official one: cross-entropy over the two logits (-s, +s), Adam 1e-3, one clip a step, at most 100 epochs, stop 10
after the best, seed 43; as in adam.py the numbers are those of ``torch.manual_seed(seed)``, the network made, then each
epoch a shuffling DataLoader and one of the validation clips. The probability of fake is sigmoid(2s).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from numpy.typing import NDArray
from torch import Tensor

from avfeat.errors import ProbeError
from probes.adam import Shuffle
from probes.featureset import FeatureSet
from probes.fit import PAPER_SEED
from probes.heads.base import Clips
from probes.heads.frames import blocks, held_clips, parts, score_rows
from probes.heads.network import SIZES, FrameNetwork
from probes.heads.neural import NeuralProbe, labelled
from probes.heads.training import adam, seeded, take_step, train
from probes.objective import balanced_weights, clip_losses
from probes.pooling import Pooling
from probes.solving import Progress

BLOCK_ROWS = 2048
"""Frames that go through the network at once."""


class MlpProbe(NeuralProbe):
    """AVH-Align's supervised network, for one feature or several side by side.

    Args:
        pool: lse, lse:T, lse-mean, lse-mean:T, max, mean, min or top:K.
        sizes: width of all projections together, then of the hidden layers.
        learning_rate: of Adam.
        epochs: at most so many.
        patience: end so many epochs after the best; without validation all epochs are taken, and the last is kept.
        class_weight: ``none``, or ``balanced``.
        seed: of the initial weights and of the order of the clips.
        device: a torch device; None: where the frames are.
    """

    kind: ClassVar[str] = "mlp"
    network_: FrameNetwork

    def __init__(
        self,
        pool: str = "lse",
        sizes: tuple[int, ...] = SIZES,
        learning_rate: float = 1e-3,
        epochs: int = 100,
        patience: int = 10,
        class_weight: str = "none",
        seed: int = PAPER_SEED,
        device: str | None = None,
    ):
        self.pool = pool
        self.sizes = sizes
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.patience = patience
        self.class_weight = class_weight
        self.seed = seed
        self.device = device

    def make_network(self, widths: Sequence[int]) -> FrameNetwork:
        """Return the network with fresh weights."""
        return FrameNetwork(widths, self.sizes)

    def fit(
        self,
        X: Clips,  # noqa: N803
        y: Sequence[int] | NDArray[Any] | None = None,
        validation: FeatureSet | tuple[Clips, Sequence[int]] | None = None,
        tell: Callable[[Progress], None] = lambda progress: None,
    ) -> Self:
        """Fit on clips; ``y`` may be left out when X is a FeatureSet with labels.

        Raises:
            ProbeError: one class only, unknown labels, or frames that do not fit each other.
        """
        if self.class_weight not in ("none", "balanced"):
            raise ProbeError(f"Class weight {self.class_weight!r} is not known; choose none or balanced.")
        data, val = labelled(X, y, validation)
        shuffle = Shuffle(self.seed)
        with seeded(self.seed):
            network = self.make_network(data.widths)
            shuffle.generator.set_state(torch.get_rng_state())
        step = _Step(network.to(self._place(data)), Pooling.parse(self.pool))
        optimiser = adam(network, self.learning_rate)
        weights = (balanced_weights(data.labels, self.class_weight) * len(data)).tolist()

        def walk() -> float:
            total = 0.0
            for clip in held_clips(data, shuffle.order(len(data))):
                optimiser.zero_grad()
                total += step.learn(data, clip, weights[clip])
                take_step(optimiser)
            return total / len(data)

        def validate() -> float:
            assert val is not None
            shuffle.loader()
            return sum(step.loss(val, clip) for clip in held_clips(val, range(len(val)))) / len(val)

        facts = train(network, walk, validate if val else None, epochs=self.epochs, patience=self.patience, tell=tell)
        return self.set_network(network, data.features, data.widths, {**facts, "seed": self.seed})

    def _rows(self, data: FeatureSet) -> Tensor:
        network, place = self.network_.to(self._place(data)), self._place(data)
        scores = score_rows(data, BLOCK_ROWS, lambda rows: network(parts(data, rows, place)))
        network.cpu()
        return scores


class _Step:
    """The loss of one clip and its gradient; a long clip in blocks, for the memory of one."""

    def __init__(self, network: FrameNetwork, pooling: Pooling):
        self.network, self.pooling = network, pooling
        self.place = next(network.parameters()).device

    def loss(self, data: FeatureSet, clip: int) -> float:
        """Return the loss without a gradient."""
        z = torch.cat([self.network(parts(data, rows, self.place)) for rows in _blocks_of(data, clip)])
        return self._loss_and_slopes(z, data, clip)[0]

    def learn(self, data: FeatureSet, clip: int, weight: float) -> float:
        """Add the gradient of weight · loss to the network's, and return the loss.

        With the pooling's shares ∂s/∂z_t, dloss/dz_t = 2 (sigmoid(2s) - y) ∂s/∂z_t is known once all z are; what lies
        before z is autograd's.
        """
        rows = _blocks_of(data, clip)
        if len(rows) == 1:
            z = self.network(parts(data, rows[0], self.place))
            loss, slopes = self._loss_and_slopes(z.detach(), data, clip)
            z.backward(slopes * weight)
            return loss
        with torch.no_grad():
            z = torch.cat([self.network(parts(data, block, self.place)) for block in rows])
        loss, slopes = self._loss_and_slopes(z, data, clip)
        for block, slope in zip(rows, torch.split(slopes, BLOCK_ROWS), strict=True):
            self.network(parts(data, block, self.place)).backward(slope * weight)
        return loss

    def _loss_and_slopes(self, z: Tensor, data: FeatureSet, clip: int) -> tuple[float, Tensor]:
        label = data.labels[clip].to(self.place)
        scores, shares = self.pooling.pool(z[None, :, None], torch.tensor([len(z)], device=self.place))
        slope = 2 * (torch.sigmoid(2 * scores) - label)
        return float(clip_losses(scores, label[None])), (shares * slope)[0, :, 0]


def _blocks_of(data: FeatureSet, clip: int) -> list[slice]:
    start, stop = data.offsets[clip : clip + 2].tolist()
    return [slice(start + block.start, start + block.stop) for block in blocks(stop - start, BLOCK_ROWS)]
