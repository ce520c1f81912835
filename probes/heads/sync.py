"""AVH-Align: how badly sound and picture fit each other, learned from real clips only.

f is the network of network.py on a pair of one video and one audio frame, each divided by its norm. It learns to tell
the audio frame of the same moment from the 2τ around it (sync_offsets.py has the loss). A frame's score is
-f(v_t, a_t), a clip's is their log-sum-exp or another pooling: higher = worse aligned = more likely fake.

Training is the official one: the loss of a batch is its sum over frames; Adam 1e-5, batches of 1024 frames in clip
order, the rate divided by ten after 5 epochs without a better validation loss, the end after 10, at most 500 epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from numpy.typing import NDArray
from torch import Tensor

from probes.featureset import FeatureSet
from probes.fit import PAPER_SEED
from probes.heads.base import Clips
from probes.heads.frames import parts, score_rows
from probes.heads.network import SIZES, FrameNetwork
from probes.heads.neural import NeuralProbe
from probes.heads.pair import as_pair
from probes.heads.sync_by_hand import Room
from probes.heads.sync_offsets import batches, learn, loss
from probes.heads.training import adam, pick_held_out, seeded, take_step, train
from probes.solving import Progress

BLOCK_ROWS = 2048
"""Frames that are scored at once."""


class SyncProbe(NeuralProbe):
    """AVH-Align's network over exactly two features: a video feature, then an audio feature.

    Args:
        pool: lse, lse:T, lse-mean, lse-mean:T, max, mean, min or top:K; matters when scoring only, not in training.
        tau: audio up to so many frames before and after is compared.
        sizes: width of both projections together, then of the hidden layers.
        learning_rate: of Adam.
        batch: frames a step.
        epochs: at most so many.
        patience: end so many epochs after the best.
        decay: what the learning rate is multiplied with when nothing gets better …
        decay_patience: … for more than so many epochs.
        seed: of the initial weights, and of the clips that are held out when no validation set is given.
        device: a torch device; None: where the frames are.
    """

    kind: ClassVar[str] = "sync"
    learns_from = "real"
    reads = 2
    network_: FrameNetwork

    def __init__(
        self,
        pool: str = "lse",
        tau: int = 15,
        sizes: tuple[int, ...] = SIZES,
        learning_rate: float = 1e-5,
        batch: int = 1024,
        epochs: int = 500,
        patience: int = 10,
        decay: float = 0.1,
        decay_patience: int = 5,
        seed: int = PAPER_SEED,
        device: str | None = None,
    ):
        self.pool = pool
        self.tau = tau
        self.sizes = sizes
        self.learning_rate = learning_rate
        self.batch = batch
        self.epochs = epochs
        self.patience = patience
        self.decay = decay
        self.decay_patience = decay_patience
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
        """Fit on the clips labelled 0; arrays without ``y`` are all real, and hold video and audio side by side.

        Without validation a tenth of the real clips is held out for it.

        Raises:
            ProbeError: no real clip, not two features in the right order, or frames that do not fit each other.
        """
        data, clips = as_pair(X, y, "Training set")
        clips, val, held_out = pick_held_out(data, clips, validation, self.seed)
        place = self._place(data)
        with seeded(self.seed):
            network = self.make_network(data.widths).to(place)
        optimiser, room = adam(network, self.learning_rate), Room()
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=self.decay, patience=self.decay_patience)

        def walk() -> float:
            total, frames = 0.0, 0
            for batch in batches(data, clips, self.tau, self.batch, place, room):
                optimiser.zero_grad()
                total += learn(network, batch, room)
                take_step(optimiser)
                frames += len(batch.video)
            return total / frames

        def validate() -> float:
            total, frames = 0.0, 0
            for batch in batches(val, held_out, self.tau, self.batch, place, room):
                total += loss(network, batch, room)
                frames += len(batch.video)
            plateau.step(total / frames)
            return total / frames

        facts = train(network, walk, validate, epochs=self.epochs, patience=self.patience, tell=tell)
        facts |= {"seed": self.seed, "real_clips": len(clips), "held_out_clips": len(held_out)}
        return self.set_network(network, data.features, data.widths, facts).draw_line(val, held_out)

    def _rows(self, data: FeatureSet) -> Tensor:
        place = self._place(data)
        network = self.network_.to(place)
        scores = score_rows(data, BLOCK_ROWS, lambda rows: -network(parts(data, rows, place)))
        network.cpu()
        return scores
