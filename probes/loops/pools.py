"""A clip's score from its frame scores, and the share of each frame in its derivative; the formulas of pooling.py."""

from __future__ import annotations

import math

import numpy as np

from probes.loops.machine import bits_as_float, compiled, maximum, reordered

LSE, LSE_MEAN, MAX, MIN, MEAN, TOP = range(6)
KINDS = {"lse": LSE, "lse-mean": LSE_MEAN, "max": MAX, "min": MIN, "mean": MEAN, "top": TOP}
"""The numbers by which ``pool`` knows the poolings."""

LOWEST = np.float32(-60)
LOG_2_HIGH = 0.693359375  # few enough bits that a whole number times it is exact
LOG_2_LOW = math.log(2) - LOG_2_HIGH


@compiled(fastmath=("contract",))
def exp(x):
    """e^x of x ≤ 0 without a branch or a call, so that the lanes of a processor take many at once; below -60 it is 0.

    x = n log 2 + r with |r| ≤ log(2) / 2, for which the Taylor series to r⁷ is exact in float32; 2ⁿ is put together
    from the bits of its exponent. What is 10⁻²⁶ of the highest changes no sum, but products with it would end near
    10⁻³⁸, where a processor is a hundred times slower.
    """
    n = np.floor(max(x, LOWEST) * np.float32(1 / math.log(2)) + np.float32(0.5))
    r = (x - n * np.float32(LOG_2_HIGH)) - n * np.float32(LOG_2_LOW)
    total = np.float32(1 / 720) + r * np.float32(1 / 5040)
    total = np.float32(1 / 24) + r * (np.float32(1 / 120) + r * total)
    total = np.float32(1 / 2) + r * (np.float32(1 / 6) + r * total)
    total = np.float32(1) + r * (np.float32(1) + r * total)
    power = bits_as_float(np.int32((np.int32(n) + np.int32(127)) << np.int32(23)))
    return np.float32(0) if x < LOWEST else total * power


@compiled
def scale(row, factor):
    """Multiply ``row`` by a factor."""
    for k in range(len(row)):
        row[k] *= factor


@reordered
def highest(z):
    """The highest of z."""
    best = z[0]
    for t in range(1, len(z)):
        best = maximum(best, z[t])
    return best


@reordered
def pool(z, kind, number):
    """Return the score of one clip's frame scores z [frames], which become the shares ∂score/∂z; see pooling.py."""
    count = len(z)
    if kind == MEAN:
        total = np.float32(0)
        for t in range(count):
            total += z[t]
            z[t] = np.float32(1 / count)
        return total / np.float32(count)
    if kind == TOP:
        return pool_top(z, min(np.int64(number), count))
    if kind in (MAX, MIN):
        best = 0
        for t in range(1, count):
            if (z[t] > z[best]) if kind == MAX else (z[t] < z[best]):
                best = t
        score = z[best]
        scale(z, np.float32(0))
        z[best] = np.float32(1)
        return score
    score, factor, total = highest(z), np.float32(1) / number, np.float32(0)
    for t in range(count):
        z[t] = exp((z[t] - score) * factor)
        total += z[t]
    scale(z, np.float32(1) / total)
    if kind == LSE_MEAN:
        total /= np.float32(count)
    return score + number * np.log(total)


@reordered
def pool_top(z, count):
    """Return the mean of the ``count`` highest of z [frames], which become their shares."""
    total = np.float32(0)
    chosen = np.zeros(len(z), np.bool_)
    for _ in range(count):
        best = -1
        for t in range(len(z)):
            if not chosen[t] and (best < 0 or z[t] > z[best]):
                best = t
        chosen[best] = True
        total += z[best]
    for t in range(len(z)):
        z[t] = np.float32(1 / count) if chosen[t] else np.float32(0)
    return total / np.float32(count)


@compiled
def slope_of(score, label, doubled):
    """dloss/ds times the clip's weight, of which ``doubled`` is twice."""
    return np.float32((1 / (1 + math.exp(-2 * np.float64(score))) - label) * doubled)
