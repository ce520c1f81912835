"""The inner loops of linear probes on a processor, compiled by numba: what PyTorch does in many small operations.

A step of ``adam`` on one clip reads 0.3 MB, and PyTorch spends more time on starting some 25 operations than on the
numbers. Here the rows of a clip come from memory once, are converted from float16 in registers both for the scores and
for the gradient, and meanwhile the next clip is on its way into the cache. The formulas are those of objective.py,
pooling.py and adam.py, which a GPU follows; arithmetic is float32. What numba compiles it keeps on disk, so that only
the first use of all has to wait for it.

Arguments: ``frames`` are [rows, width] in float32, or in uint16, the bits of float16; ``norms`` float32
[rows, features], 1 / L2 norm of each part of a row; ``bounds`` int64 [features + 1], where the columns of each feature
begin; ``theta`` float32 [probes, width + 1], the weights, then the bias; ``kinds`` and ``numbers`` [probes] the
poolings.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LSE, LSE_MEAN, MAX, MIN, MEAN, TOP = range(6)
KINDS = {"lse": LSE, "lse-mean": LSE_MEAN, "max": MAX, "min": MIN, "mean": MEAN, "top": TOP}
"""The numbers by which ``pool`` knows the poolings."""

LINE_BYTES = 64
LOG_2_HIGH = 0.693359375  # few enough bits that a whole number times it is exact
LOG_2_LOW = math.log(2) - LOG_2_HIGH

compiled: Any = partial(numba.njit, cache=True, nogil=True, error_model="numpy")
# Terms of a sum may change places: only then can it be spread over the lanes of a processor.
reordered: Any = partial(compiled, fastmath={"reassoc", "contract", "nsz"})


@intrinsic
def as_float(context: Any, number: Any) -> Any:
    """Float32 of one stored number."""
    if number == types.float32:
        return types.float32(number), lambda target, builder, signature, args: args[0]

    def convert(target: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), convert


@intrinsic
def bits_as_float(context: Any, bits: Any) -> Any:
    """The float32 that these 32 bits are."""
    return types.float32(types.int32), lambda target, builder, signature, args: builder.bitcast(args[0], ir.FloatType())


@intrinsic
def prefetch(context: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of one number without waiting for it."""

    def ask(target: Any, builder: Any, signature: Any, args: Any) -> Any:
        header = target.make_array(array)(target, builder, args[0])
        place = cgutils.get_item_pointer(target, builder, array, header, args[1:], wraparound=False)
        address = builder.bitcast(place, cgutils.voidptr_t)
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, flag, flag, flag])
        to_read, to_keep, data = flag(0), flag(3), flag(1)
        builder.call(
            cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0"), [address, to_read, to_keep, data]
        )
        return target.get_dummy_value()

    return types.void(array, types.intp), ask


@compiled
def ask_for(rows, first, last):
    """Prefetch the columns from ``first`` on, before ``last``, of some rows."""
    for t in range(len(rows)):
        row = rows[t, first:last]
        for j in range(0, len(row), LINE_BYTES // row.itemsize):
            prefetch(row, j)


@partial(compiled, fastmath={"contract"})
def exp(x):
    """e^x of x ≤ 0 (e^-87 below -87) without a branch or a call, so that the lanes of a processor take many at once.

    x = n log 2 + r with |r| ≤ log(2) / 2, for which the Taylor series to r⁷ is exact in float32; 2ⁿ is put together
    from the bits of its exponent.
    """
    x = max(x, np.float32(-87.0))
    n = np.floor(x * np.float32(1 / math.log(2)) + np.float32(0.5))
    r = (x - n * np.float32(LOG_2_HIGH)) - n * np.float32(LOG_2_LOW)
    total = np.float32(1 / 720) + r * np.float32(1 / 5040)
    total = np.float32(1 / 24) + r * (np.float32(1 / 120) + r * total)
    total = np.float32(1 / 2) + r * (np.float32(1 / 6) + r * total)
    total = np.float32(1) + r * (np.float32(1) + r * total)
    return total * bits_as_float(np.int32((np.int32(n) + np.int32(127)) << np.int32(23)))


@compiled
def scale(row, factor):
    """Multiply ``row`` by a factor."""
    for k in range(len(row)):
        row[k] *= factor


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
    best = 0
    if kind == MIN:
        for t in range(1, count):
            if z[t] < z[best]:
                best = t
    else:
        for t in range(1, count):
            if z[t] > z[best]:
                best = t
    score = z[best]
    if kind in (MAX, MIN):
        scale(z, np.float32(0))
        z[best] = np.float32(1)
        return score
    total = np.float32(0)
    for t in range(count):
        z[t] = exp((z[t] - score) / number)
        total += z[t]
    for t in range(count):
        z[t] /= total
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


@reordered
def dot(row, weights):
    """Σ_j row_j · weights_j of one row as stored."""
    total = np.float32(0)
    for j in range(len(weights)):
        total += as_float(row[j]) * weights[j]
    return total


@reordered
def add_row(factor, row, out):
    """Add one row as stored, times ``factor``, to ``out``."""
    for j in range(len(out)):
        out[j] += factor * as_float(row[j])


@reordered
def add_four(a, b, c, d, x0, x1, x2, x3, out):
    """Add four rows as stored, times a to d, to ``out``, which so is read and written once instead of four times."""
    for j in range(len(out)):
        out[j] += (a * as_float(x0[j]) + b * as_float(x1[j])) + (c * as_float(x2[j]) + d * as_float(x3[j]))


@compiled
def score_rows(rows, norms, bounds, theta, following, z):
    """Write the scores of ``rows`` to z [rows]; meanwhile prefetch half of each of the ``following`` rows."""
    width = len(theta) - 1
    for t in range(len(rows)):
        ask_for(following[t : t + 1], 0, width // 2)
        z[t] = theta[width]
        for feature in range(len(bounds) - 1):
            a, b = bounds[feature], bounds[feature + 1]
            z[t] += dot(rows[t, a:b], theta[a:b]) * norms[t, feature]


@compiled
def add_rows(rows, norms, bounds, derivatives, following, gradient):
    """Add Σ_t derivatives[t] · x_t to ``gradient`` [width + 1]; prefetch the other halves of the ``following`` rows."""
    for t in range(0, len(rows), 4):
        count = min(4, len(rows) - t)
        ask_for(following[t : t + count], rows.shape[1] // 2, rows.shape[1])
        for feature in range(len(bounds) - 1):
            a, b = bounds[feature], bounds[feature + 1]
            out = gradient[a:b]
            if count == 4:
                d0, d1 = derivatives[t] * norms[t, feature], derivatives[t + 1] * norms[t + 1, feature]
                d2, d3 = derivatives[t + 2] * norms[t + 2, feature], derivatives[t + 3] * norms[t + 3, feature]
                # Only a slice of one row is known to numba to be without gaps.
                x0, x1, x2, x3 = rows[t, a:b], rows[t + 1, a:b], rows[t + 2, a:b], rows[t + 3, a:b]
                add_four(d0, d1, d2, d3, x0, x1, x2, x3, out)
            else:
                for row in range(t, t + count):
                    add_row(derivatives[row] * norms[row, feature], rows[row, a:b], out)


@compiled
def longest(offsets):
    """Rows of the longest clip."""
    most = 0
    for clip in range(len(offsets) - 1):
        most = max(most, offsets[clip + 1] - offsets[clip])
    return most


@compiled
def evaluate(frames, norms, bounds, offsets, labels, doubled, kind, number, theta, with_gradient, scores, gradient):
    """Write one probe's scores of the clips of ``offsets`` to ``scores`` [clips] and add up ``gradient`` [width + 1].

    offsets: int64 [clips + 1], from the first of ``frames`` on.
    labels: float32 [clips]; doubled float32 [clips], twice the clips' weights.
    gradient: the derivative of the bias is left alone.
    """
    z = np.empty(longest(offsets), np.float32)
    for clip in range(len(offsets) - 1):
        first, last = offsets[clip], offsets[clip + 1]
        rows, following, own = frames[first:last], frames[last : 2 * last - first], z[: last - first]
        score_rows(rows, norms[first:last], bounds, theta, following, own)
        scores[clip] = pool(own, kind, number)
        if with_gradient:
            scale(own, slope_of(scores[clip], labels[clip], doubled[clip]))
            add_rows(rows, norms[first:last], bounds, own, following, gradient)


@compiled
def step(theta, gradient, mean, square, adam, steps):
    """Move theta as the ``steps``-th step of Adam; the order of operations is that of torch.optim.Adam.

    theta, gradient, mean, square: float32 [parameters].
    adam: float64, β₁, β₂, ε and the learning rate.
    """
    new_mean, old_square, new_square = np.float32(1 - adam[0]), np.float32(adam[1]), np.float32(1 - adam[1])
    correction = np.float32(math.sqrt(1 - adam[1] ** steps))
    epsilon, rate = np.float32(adam[2]), np.float32(adam[3] / (1 - adam[0] ** steps))
    for k in range(len(theta)):
        mean[k] += new_mean * (gradient[k] - mean[k])
        square[k] = square[k] * old_square + new_square * gradient[k] * gradient[k]
        theta[k] -= rate * (mean[k] / (np.sqrt(square[k]) / correction + epsilon))


@compiled
def begin(gradient, theta, decay, slope):
    """Set ``gradient`` [width + 1] to the derivative of ½·decay·|w|², and of the bias: ``slope``."""
    for j in range(len(theta) - 1):
        gradient[j] = decay * theta[j]
    gradient[len(theta) - 1] = slope


@compiled
def walk(frames, norms, bounds, offsets, order, labels, doubled, kind, number, decay, theta, mean, square, adam, steps):
    """Take one step of Adam for each clip of ``order``, for one probe that has taken ``steps`` steps before."""
    z = np.empty(longest(offsets), np.float32)
    gradient = np.empty(len(theta), np.float32)
    for turn in range(len(order)):
        clip, coming = order[turn], order[min(turn + 1, len(order) - 1)]
        first, last = offsets[clip], offsets[clip + 1]
        rows, following, own = frames[first:last], frames[offsets[coming] : offsets[coming + 1]], z[: last - first]
        score_rows(rows, norms[first:last], bounds, theta, following, own)
        slope = slope_of(pool(own, kind, number), labels[clip], doubled[clip])
        scale(own, slope)
        begin(gradient, theta, decay, slope)
        add_rows(rows, norms[first:last], bounds, own, following, gradient)
        step(theta, gradient, mean, square, adam, steps + turn + 1)


@reordered
def convert(row, norm, out):
    """Write one row as stored, times ``norm``, to ``out``."""
    for j in range(len(out)):
        out[j] = as_float(row[j]) * norm


@compiled
def normalise(rows, norms, bounds, following, out):
    """Write ``rows`` to ``out`` float32 [rows, width], each feature's part times its norm; prefetch ``following``."""
    for t in range(len(rows)):
        ask_for(following[t : t + 1], 0, rows.shape[1])
        for feature in range(len(bounds) - 1):
            a, b = bounds[feature], bounds[feature + 1]
            convert(rows[t, a:b], norms[t, feature], out[t, a:b])


@compiled
def pool_block(z, offsets, labels, doubled, kinds, numbers, theta, scores, slopes):
    """Pool z [probes, rows], the frame scores of some clips without the biases, into ``scores`` [clips, probes].

    z becomes dloss/dz, and ``slopes`` [clips, probes] dloss/ds; kinds and numbers are [probes], offsets, labels and
    doubled those of ``evaluate``, theta [probes, width + 1].
    """
    for k in range(len(z)):
        for clip in range(len(offsets) - 1):
            own = z[k, offsets[clip] - offsets[0] : offsets[clip + 1] - offsets[0]]
            scores[clip, k] = pool(own, kinds[k], numbers[k]) + theta[k, -1]
            slopes[clip, k] = slope_of(scores[clip, k], labels[clip], doubled[clip])
            scale(own, slopes[clip, k])


@compiled
def begin_all(gradient, theta, decay, slopes):
    """Do ``begin`` for each probe: gradient and theta [probes, width + 1], decay and slopes [probes]."""
    for k in range(len(theta)):
        begin(gradient[k], theta[k], decay[k], slopes[k])
