"""What the solvers share: the problem, its losses, and the memory of the best point of each probe."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from probes.featureset import FeatureSet
from probes.objective import balanced_weights, evaluate
from probes.pooling import Pooling


@dataclass(frozen=True)
class Problem:
    """K linear probes on one training set, each with its pooling, its weight decay and its seed.

    weight_decay: float32 [probes], the loss gains ½·wd·|w|², the bias stays free.
    class_weight: ``none`` or ``balanced``; for training only, validation is the plain mean over clips.
    """

    train: FeatureSet
    val: FeatureSet | None
    pools: tuple[Pooling, ...]
    weight_decay: Tensor
    seeds: tuple[int, ...]
    class_weight: str = "none"

    def keep(self, rows: Tensor) -> Problem:
        """Return the problem of these probes, bool [probes]."""
        chosen = rows.nonzero()[:, 0].tolist()
        return replace(
            self,
            pools=tuple(self.pools[k] for k in chosen),
            seeds=tuple(self.seeds[k] for k in chosen),
            weight_decay=self.weight_decay[rows],
        )

    def training_loss(self, theta: Tensor, gradient: Tensor | None = None) -> Tensor:
        """Return loss and penalty, float64 [probes], and overwrite ``gradient`` when given."""
        weights = balanced_weights(self.train.labels, self.class_weight)
        loss = evaluate(self.train, theta, self.pools, weights, gradient)
        if gradient is not None:
            gradient[:, :-1].addcmul_(theta[:, :-1], self.weight_decay[:, None])
        return loss + 0.5 * self.weight_decay * theta[:, :-1].double().square().sum(1)

    def validation_loss(self, theta: Tensor) -> Tensor:
        """Return the mean loss over the validation clips, float64 [probes]."""
        assert self.val is not None
        return evaluate(self.val, theta, self.pools, balanced_weights(self.val.labels, "none"))


@dataclass(frozen=True)
class Progress:
    """One line for the terminal: step ``done`` of at most ``most``, the best losses so far, probes still going."""

    unit: str
    done: int
    most: int
    best_loss: Tensor
    going: int


class Tracker:
    """The best point of every probe, and which probes have gone on too long without a better one.

    best: float32 [probes, width + 1]; best_loss: float64 [probes]; best_step: int64 [probes], 0 is the start.
    stopped: for each probe why it ended: ``patience``, ``converged``, ``epochs``, ``evaluations``, ``interrupted``.
    """

    def __init__(self, theta: Tensor, patience: int):
        self.best = theta.clone()
        self.best_loss = torch.full((len(theta),), torch.inf, dtype=torch.float64)
        self.best_step = torch.zeros(len(theta), dtype=torch.int64)
        self.stopped = [""] * len(theta)
        self.steps = 0
        self.history: list[list[float]] = []
        self._patience = patience

    @property
    def active(self) -> Tensor:
        """Int64: the probes that still go on, in order."""
        return torch.tensor([k for k, why in enumerate(self.stopped) if not why], dtype=torch.int64)

    def record(self, step: int, theta: Tensor, losses: Tensor, newest: bool = False) -> Tensor:
        """Take the active probes' points and losses; return which of them go on, bool [active].

        newest: keep the point whatever its loss, for a fit that nothing but its length ends.
        """
        active, losses = self.active, losses.cpu()
        self.steps = step
        row = torch.full_like(self.best_loss, torch.nan)
        row[active] = losses
        self.history.append(row.tolist())
        better = torch.ones_like(losses, dtype=torch.bool) if newest else losses < self.best_loss[active]
        chosen = active[better]
        self.best[chosen.to(self.best.device)] = theta[better.to(theta.device)]
        self.best_loss[chosen] = losses[better]
        self.best_step[chosen] = step
        going = step - self.best_step[active] < self._patience
        for k in active[~going].tolist():
            self.stopped[k] = "patience"
        return going

    def stop(self, probe: int, why: str) -> None:
        """End one probe."""
        self.stopped[probe] = why

    def end(self, why: str) -> None:
        """End all probes that still go on."""
        self.stopped = [old or why for old in self.stopped]
