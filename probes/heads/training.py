"""The training loop of the heads that are networks: passes until nothing gets better, the best one kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from avfeat.errors import ProbeError
from probes.cores import spread
from probes.featureset import FeatureSet, check_features
from probes.heads.base import REAL, Clips, as_set
from probes.solving import Progress, Tracker

HELD_OUT = 0.1
"""The share of the real clips that choose the best epoch when there is no validation set."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw torch's random numbers as after ``torch.manual_seed(seed)``, and leave the caller's as they were.

    Weights are always drawn on the CPU, so that they are the same on every device.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def train(
    network: nn.Module,
    walk: Callable[[], float],
    validate: Callable[[], float] | None,
    *,
    epochs: int,
    patience: int,
    tell: Callable[[Progress], None],
) -> dict[str, Any]:
    """Train until ``patience`` epochs after the best one, leave the best weights in ``network``, return plain facts.

    Ctrl-C ends the training and keeps the best so far; before the end of the first epoch, what there is.

    Args:
        walk: takes one pass over the training set and returns its loss.
        validate: returns the loss that chooses the best epoch; None: nothing but ``epochs`` ends it, the last is kept.

    Raises:
        ProbeError: the loss is not finite from the first epoch on.
    """
    tracker = Tracker(_theta(network), patience if validate else epochs)
    try:
        for number in range(1, epochs + 1):
            loss = walk()
            if validate:
                with torch.inference_mode():
                    loss = validate()
            losses = torch.tensor([loss], dtype=torch.float64)
            going = tracker.record(number, _theta(network), losses, newest=validate is None)
            tell(Progress("epoch", number, epochs, tracker.best_loss, int(going.sum())))
            if not going.any():
                break
        else:
            tracker.end("epochs")
    except KeyboardInterrupt:
        tracker.end("interrupted")
    best, at = float(tracker.best_loss[0]), int(tracker.best_step[0])
    if tracker.steps and not torch.isfinite(tracker.best_loss[0]):
        raise ProbeError(
            f"The loss was {tracker.history[-1][0]} after {tracker.steps} epochs: lower the learning rate."
        )
    if at:
        vector_to_parameters(tracker.best[0], network.parameters())
    history = [row[0] for row in tracker.history]
    return {"loss": best if at else None, "best_step": at, "stopped": tracker.stopped[0], "losses": history}


def adam(network: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """Return PyTorch's Adam; in its fused form a step goes over the weights once and not a dozen times."""
    return torch.optim.Adam(network.parameters(), learning_rate, fused=True)


def take_step(optimiser: torch.optim.Optimizer) -> None:
    """Change the weights by their gradients, on one core: to share out so many small operations costs more."""
    spread(lambda each: each.step(), [optimiser])


def _theta(network: nn.Module) -> torch.Tensor:
    """All parameters as one point [1, parameters], a copy."""
    return parameters_to_vector([parameter.detach() for parameter in network.parameters()])[None]


def real_clips(clips: Clips, labels: Any, what: str, like: FeatureSet | None = None) -> tuple[FeatureSet, list[int]]:
    """Return a set and the numbers of its real clips; arrays without labels are all real.

    like: arrays hold the features of this set.

    Raises:
        ProbeError: none of the clips is labelled 0.
    """
    if isinstance(clips, FeatureSet):
        data = as_set(clips, labels)
    else:
        features, widths = (like.features, like.widths) if like else (("feature",), None)
        known = [REAL] * len(clips) if labels is None else labels
        data = FeatureSet.from_arrays(clips, known, features=features, widths=widths)
    numbers = (data.labels == REAL).nonzero()[:, 0].tolist()
    if not numbers:
        raise ProbeError(
            f"{what}: none of the {len(data)} clips is labelled 0 (real), and this head learns from real ones only."
        )
    return data, numbers


def pick_held_out(
    data: FeatureSet, real: list[int], validation: FeatureSet | tuple[Clips, Any] | None, seed: int
) -> tuple[list[int], FeatureSet, list[int]]:
    """Return the real clips to learn from, and the set and its real clips that choose the best epoch.

    Without validation these are a tenth of ``real``, drawn by the seed; a single clip does both.

    Raises:
        ProbeError: the validation set has no real clip, or other features or widths.
    """
    if validation is not None:
        return real, *other_real_clips(validation, data)
    if len(real) == 1:
        return real, data, real
    count = max(1, round(HELD_OUT * len(real)))
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed)).tolist()
    return [real[k] for k in sorted(order[count:])], data, [real[k] for k in sorted(order[:count])]


def other_real_clips(validation: FeatureSet | tuple[Clips, Any], data: FeatureSet) -> tuple[FeatureSet, list[int]]:
    """Return a validation set for ``data`` and the numbers of its real clips.

    Raises:
        ProbeError: it has no real clip, or other features or widths.
    """
    clips, labels = (validation, None) if isinstance(validation, FeatureSet) else validation
    val, real = real_clips(clips, labels, "Validation set", like=data)
    check_features(val, data.features, data.widths, "Validation set")
    return val, real
