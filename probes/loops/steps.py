"""A step of Adam."""

from __future__ import annotations

import math

import numpy as np

from probes.loops.machine import compiled


@compiled
def step(theta, one, other, mean, square, adam, steps):
    """Move theta as the ``steps``-th step of Adam; the order of operations is that of torch.optim.Adam.

    theta, mean, square: float32 [parameters]; one, other: the gradient is their sum.
    """
    new_mean, old_square, new_square = np.float32(1 - adam[0]), np.float32(adam[1]), np.float32(1 - adam[1])
    correction = np.float32(math.sqrt(1 - adam[1] ** steps))
    epsilon, rate = np.float32(adam[2]), np.float32(adam[3] / (1 - adam[0] ** steps))
    for k in range(len(theta)):
        gradient = one[k] + other[k]
        mean[k] += new_mean * (gradient - mean[k])
        square[k] = square[k] * old_square + new_square * gradient * gradient
        theta[k] -= rate * (mean[k] / (np.sqrt(square[k]) / correction + epsilon))
