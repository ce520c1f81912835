"""Fit linear probes: seeds × weight decays × poolings at once, with either solver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor

from avfeat.errors import ProbeError
from probes import adam, lbfgs
from probes.adam import AdamSettings
from probes.featureset import FeatureSet, check_features
from probes.lbfgs import LbfgsSettings
from probes.pooling import Pooling
from probes.solving import Problem, Progress, Tracker

PAPER_SEED = 43
"""The seed of the official runs."""

Settings = AdamSettings | LbfgsSettings


@dataclass(frozen=True)
class Column:
    """One of the probes that are fitted together: what sets it apart, and how its fit ended.

    loss: of the best point, on validation when there is one, else on training with the penalty.
    """

    pool: Pooling
    weight_decay: float
    seed: int
    loss: float
    step: int
    stopped: str


@dataclass(frozen=True)
class Fitted:
    """The best point of each probe: theta float32 [probes, width + 1], weights then bias.

    history: for each epoch or evaluation the loss of each probe, NaN once a probe has ended.
    """

    theta: Tensor
    columns: tuple[Column, ...]
    settings: Settings
    history: list[list[float]] = field(repr=False)
    class_weight: str = "none"

    @property
    def best(self) -> int:
        """The probe with the lowest loss."""
        return min(range(len(self.columns)), key=lambda k: self.columns[k].loss)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the fit."""
        return any(column.stopped == "interrupted" for column in self.columns)

    def facts(self, column: int) -> dict[str, Any]:
        """Plain data on one probe's fit."""
        one = self.columns[column]
        return {
            "solver": "adam" if isinstance(self.settings, AdamSettings) else "lbfgs",
            "settings": asdict(self.settings),
            "pool": str(one.pool),
            "weight_decay": one.weight_decay,
            "seed": one.seed,
            "class_weight": self.class_weight,
            "loss": one.loss,
            "best_step": one.step,
            "stopped": one.stopped,
        }


def fit(
    train: FeatureSet,
    val: FeatureSet | None = None,
    *,
    pools: Sequence[Pooling] = (Pooling(),),
    weight_decays: Sequence[float] = (0.0,),
    seeds: Sequence[int] = (PAPER_SEED,),
    settings: Settings | None = None,
    class_weight: str = "none",
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Fitted:
    """Fit one linear probe for each of pools × weight_decays × seeds; the frames are read once for all.

    Args:
        train: clips to learn from; both classes must be there.
        val: clips that choose the best epoch or evaluation of each probe and end its fit; None: the solver's end.
        settings: AdamSettings for the paper's solver, LbfgsSettings (the default) for the optimum.
        class_weight: ``none``, or ``balanced`` to give both classes the same weight in training.
        tell: called after each epoch or evaluation.

    Raises:
        ProbeError: one class only, an unknown label, other features or widths in ``val``.
    """
    settings = settings or LbfgsSettings()
    train.check_labels("Training set")
    if class_weight not in ("none", "balanced"):
        raise ProbeError(f"Class weight {class_weight!r} is not known; choose none or balanced.")
    if val is not None:
        val.check_labels("Validation set")
        check_features(val, train.features, train.widths, "Validation set")
    grid = list(product(pools, weight_decays, seeds))
    problem = Problem(
        train,
        val,
        tuple(pool for pool, _, _ in grid),
        torch.tensor([decay for _, decay, _ in grid], dtype=torch.float32, device=train.device),
        tuple(seed for _, _, seed in grid),
        class_weight,
    )
    tracker = _solve(problem, settings, tell)
    columns = tuple(
        Column(pool, decay, seed, float(tracker.best_loss[k]), int(tracker.best_step[k]), tracker.stopped[k])
        for k, (pool, decay, seed) in enumerate(grid)
    )
    return Fitted(tracker.best.cpu(), columns, settings, tracker.history, class_weight)


def settings_for(solver: str, steps: int | None = None, patience: int | None = None) -> Settings:
    """Return the settings of ``adam`` or ``lbfgs``; steps are epochs or evaluations, None is the solver's default.

    Raises:
        ProbeError: another solver.
    """
    patient = {} if patience is None else {"patience": patience}
    if solver == "adam":
        return AdamSettings(**patient, **({} if steps is None else {"epochs": steps}))
    if solver == "lbfgs":
        return LbfgsSettings(**patient, **({} if steps is None else {"evaluations": steps}))
    raise ProbeError(f"There is no solver {solver!r}; choose adam (the paper's) or lbfgs (to the optimum).")


def _solve(problem: Problem, settings: Settings, tell: Callable[[Progress], None]) -> Tracker:
    with torch.inference_mode():
        if isinstance(settings, AdamSettings):
            return adam.solve(problem, settings, tell)
        return lbfgs.solve(problem, settings, tell)
