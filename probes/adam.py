"""The paper's solver: Adam, one clip a step, clips shuffled each epoch, best epoch on validation kept.

The gradient is written out (objective.py), so a step is two matrix products and needs no autograd. The numbers are
those of ``torch.manual_seed(seed)``, ``nn.Linear(width, 1)`` with its default initialisation, then every epoch a
``DataLoader(train, shuffle=True)`` and, when there is a validation set, a ``DataLoader(val)`` with
``torch.optim.Adam(lr, weight_decay=0)``. ``weight_decay`` here adds ½·wd·|w|² to the loss and leaves the bias free.
Probes that are fitted together see the clips in one order, that of the first seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probes import processor
from probes.featureset import FeatureSet
from probes.objective import add_gradient, balanced_weights, frame_scores
from probes.pooling import Pooling, pool_columns
from probes.solving import Problem, Progress, Tracker

BETAS = (0.9, 0.999)
EPSILON = 1e-8


@dataclass(frozen=True)
class AdamSettings:
    """The defaults are the paper's: at most 100 epochs, stop 10 epochs after the best."""

    learning_rate: float = 1e-3
    epochs: int = 100
    patience: int = 10


class Adam:
    """State of the optimiser for θ [probes, parameters], changed in place."""

    def __init__(self, theta: Tensor, learning_rate: float):
        self.theta = theta
        self.settings = np.array([*BETAS, EPSILON, learning_rate])
        self.mean = torch.zeros_like(theta)
        self.square = torch.zeros_like(theta)
        self.root = torch.empty_like(theta)
        self.steps = 0

    def step(self, gradient: Tensor) -> None:
        """Move θ once; the order of operations is that of torch.optim.Adam, so that roundings agree."""
        self.steps += 1
        self.mean.lerp_(gradient, 1 - BETAS[0])
        self.square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        correction = math.sqrt(1 - BETAS[1] ** self.steps)
        torch.sqrt(self.square, out=self.root).div_(correction).add_(EPSILON)
        self.theta.addcdiv_(self.mean, self.root, value=-self.settings[3] / (1 - BETAS[0] ** self.steps))

    def part(self, probes: slice) -> Adam:
        """Return the state of some of the probes, which shares its memory with this one."""
        part = Adam(self.theta[probes], self.settings[3])
        part.mean, part.square, part.steps = self.mean[probes], self.square[probes], self.steps
        return part

    def keep(self, probes: Tensor) -> None:
        """Go on with these probes only, bool [probes]."""
        self.theta, self.mean, self.square = self.theta[probes], self.mean[probes], self.square[probes]
        self.root = torch.empty_like(self.theta)


class Shuffle:
    """The random numbers of a run: initial weights, then the orders of the clips, as documented above."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def initial(self, width: int) -> Tensor:
        """Draw the weights and the bias of ``nn.Linear(width, 1)``: float32 [width + 1], uniform ±1/sqrt(width)."""
        # kaiming_uniform_(a=sqrt(5)) reaches 1/sqrt(width) by this detour; its rounding is part of the trajectory.
        bound = math.sqrt(3.0) * (math.sqrt(2.0 / (1 + math.sqrt(5) ** 2)) / math.sqrt(width))
        weight = torch.empty(1, width).uniform_(-bound, bound, generator=self.generator)
        bias = torch.empty(1).uniform_(-1 / math.sqrt(width), 1 / math.sqrt(width), generator=self.generator)
        return torch.cat([weight[0], bias])

    def order(self, clips: int) -> list[int]:
        """Draw the order of one epoch."""
        self.loader()
        seed = int(torch.empty((), dtype=torch.int64).random_(generator=self.generator))
        order: list[int] = torch.randperm(clips, generator=torch.Generator().manual_seed(seed)).tolist()
        return order

    def loader(self) -> None:
        """Draw the number with which a DataLoader seeds its workers, used or not."""
        torch.empty((), dtype=torch.int64).random_(generator=self.generator)


@torch.inference_mode()
def epoch(data: FeatureSet, order: list[int], adam: Adam, problem: Problem, clip_weights: Tensor) -> None:
    """Take one step for each clip of ``order``; ``clip_weights`` [clips] multiply the clips' losses."""
    walk = processor.walk if data.device.type == "cpu" else general_walk
    walk(data, order, adam, problem.pools, problem.weight_decay, clip_weights)


def general_walk(
    data: FeatureSet,
    order: Sequence[int],
    adam: Adam,
    pools: Sequence[Pooling],
    weight_decay: Tensor,
    clip_weights: Tensor,
) -> None:
    """Do what ``processor.walk`` does, on any device."""
    columns, theta = data.columns, adam.theta
    decay = weight_decay[:, None] if weight_decay.any() else None
    gradient = torch.empty_like(theta)
    # One clip's numbers as ready tensors: a step is some 25 small operations, and each conversion would be one more.
    labels, doubled = data.labels.float().unbind(), (2 * clip_weights).unbind()
    lengths = data.offsets.diff()[:, None].unbind()
    for clip, rows, norms in data.clips(order):
        scores, shares = pool_columns(frame_scores(rows, norms, columns, theta)[None], lengths[clip], pools)
        slope = torch.sigmoid(scores + scores).sub_(labels[clip]).mul_(doubled[clip])
        gradient.zero_()
        gradient[:, -1] = slope[0]
        add_gradient(rows, norms, columns, shares[0] * slope, gradient)
        if decay is not None:
            gradient[:, :-1].addcmul_(theta[:, :-1], decay)
        adam.step(gradient)


def solve(problem: Problem, settings: AdamSettings, tell: Callable[[Progress], None]) -> Tracker:
    """Fit all probes of ``problem``; Ctrl-C ends the fit and keeps the best so far."""
    train, val = problem.train, problem.val
    draws = [Shuffle(seed) for seed in problem.seeds]
    theta = torch.stack([draw.initial(train.width) for draw in draws]).to(train.device)
    clip_weights = balanced_weights(train.labels, problem.class_weight) * len(train)
    tracker = Tracker(theta, settings.patience if val is not None else settings.epochs)
    adam = Adam(theta.clone(), settings.learning_rate)
    active = problem
    try:
        for number in range(1, settings.epochs + 1):
            epoch(train, draws[0].order(len(train)), adam, active, clip_weights)
            if val is None:
                losses = active.training_loss(adam.theta)
            else:
                draws[0].loader()
                losses = active.validation_loss(adam.theta)
            going = tracker.record(number, adam.theta, losses, newest=val is None)
            tell(Progress("epoch", number, settings.epochs, tracker.best_loss, int(going.sum())))
            if not going.any():
                break
            if not going.all():
                adam.keep(going)
                active = active.keep(going)
        else:
            tracker.end("epochs")
    except KeyboardInterrupt:
        tracker.end("interrupted")
    return tracker
