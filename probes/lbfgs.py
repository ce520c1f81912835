"""Full-batch L-BFGS to the optimum, many probes at once: the points of all are evaluated in one pass over the frames.

Each probe has its own search, a generator that yields the next point to evaluate. The step length is found by doubling
and halving until the weak Wolfe conditions hold (Lewis and Overton 2013), which needs few evaluations, keeps the
curvature positive although the loss is not convex, and copes with the kinks of max and min pooling. Validation is
looked at after every evaluation, and the best point of all is kept: on separable data that is what ends the fit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from probes.adam import Shuffle
from probes.solving import Problem, Progress, Tracker

Vector = NDArray[np.float64]
Search = Generator[Vector, tuple[float, Vector], str]

SUFFICIENT_DECREASE = 1e-4
CURVATURE = 0.9
LINE_EVALUATIONS = 30


@dataclass(frozen=True)
class LbfgsSettings:
    """evaluations: at most so many passes over the frames; patience: passes without a better validation loss.

    history: pairs kept; tolerance: a fit has converged when an iteration lowers the loss by less than this share.
    """

    evaluations: int = 300
    patience: int = 20
    history: int = 10
    tolerance: float = 1e-7


def search(start: Vector, settings: LbfgsSettings) -> Search:
    """Yield points, take (loss, gradient) of each, return ``converged`` when no lower point is in sight."""
    pairs: deque[tuple[Vector, Vector, float]] = deque(maxlen=settings.history)
    point = start
    loss, gradient = yield point
    while True:
        size = float(np.linalg.norm(gradient))
        if size < 1e-12:
            return "converged"
        direction = -_inverse_hessian_times(gradient, pairs)
        slope = float(gradient @ direction)
        if slope >= 0:
            pairs.clear()
            direction, slope = -gradient, -(size**2)
        # Frames have norm 1, so a first step of length 1 changes a score by at most 1.
        length = 1.0 if pairs else 1.0 / size
        low, high = 0.0, np.inf
        for _ in range(LINE_EVALUATIONS):
            trial = point + length * direction
            trial_loss, trial_gradient = yield trial
            if not trial_loss <= loss + SUFFICIENT_DECREASE * length * slope:
                high = length
            elif float(trial_gradient @ direction) < CURVATURE * slope:
                low = length
            else:
                break
            length = (low + high) / 2 if np.isfinite(high) else 2 * low
        else:
            if not pairs:
                return "converged"
            pairs.clear()
            continue
        step, change = trial - point, trial_gradient - gradient
        pairs.append((step, change, float(step @ change)))
        small = loss - trial_loss <= settings.tolerance * max(abs(loss), 1e-12)
        point, loss, gradient = trial, trial_loss, trial_gradient
        if small:
            return "converged"


def _inverse_hessian_times(gradient: Vector, pairs: deque[tuple[Vector, Vector, float]]) -> Vector:
    """The two-loop recursion (Nocedal 1980)."""
    result = gradient.copy()
    factors = []
    for step, change, curvature in reversed(pairs):
        factor = float(step @ result) / curvature
        factors.append(factor)
        result -= factor * change
    if pairs:
        _, change, curvature = pairs[-1]
        result *= curvature / float(change @ change)
    for (step, change, curvature), factor in zip(pairs, reversed(factors), strict=True):
        result += (factor - float(change @ result) / curvature) * step
    return result


def solve(problem: Problem, settings: LbfgsSettings, tell: Callable[[Progress], None]) -> Tracker:
    """Fit all probes of ``problem``; Ctrl-C ends the fit and keeps the best so far."""
    width, device = problem.train.width, problem.train.device
    starts = torch.stack([Shuffle(seed).initial(width) for seed in problem.seeds])
    tracker = Tracker(starts.to(device), settings.patience if problem.val is not None else settings.evaluations)
    searches = [search(start.double().numpy(), settings) for start in starts]
    points = [next(one) for one in searches]
    gradient = torch.empty_like(tracker.best)
    try:
        for number in range(1, settings.evaluations + 1):
            active = tracker.active.tolist()
            part = _part(problem, active)
            theta = torch.from_numpy(np.stack([points[k] for k in active])).float().to(device)
            slopes = gradient[: len(active)]
            training = part.training_loss(theta, slopes)
            tracker.record(number, theta, part.validation_loss(theta) if part.val is not None else training)
            losses, vectors = training.tolist(), slopes.double().cpu().numpy()
            for row, k in enumerate(active):
                if not tracker.stopped[k]:
                    try:
                        points[k] = searches[k].send((losses[row], vectors[row]))
                    except StopIteration as end:
                        tracker.stop(k, end.value)
            tell(Progress("evaluation", number, settings.evaluations, tracker.best_loss, len(tracker.active)))
            if not len(tracker.active):
                break
        else:
            tracker.end("evaluations")
    except KeyboardInterrupt:
        tracker.end("interrupted")
    return tracker


def _part(problem: Problem, active: list[int]) -> Problem:
    """The problem of the probes that still go on."""
    if len(active) == len(problem.seeds):
        return problem
    rows = torch.zeros(len(problem.seeds), dtype=torch.bool)
    rows[active] = True
    return problem.keep(rows)
