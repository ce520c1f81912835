"""One probe: the rows of a clip come from memory once, as stored, for its scores and for its gradient.

Rows are converted from float16 in registers, both times. ``theta`` float32 [width + 1] are the weights, then the bias.
"""

from __future__ import annotations

import numpy as np

from probes.loops.crew import END, SHARES, all_done, announce, finish, next_stage, take
from probes.loops.fetching import ask, fetch, place
from probes.loops.machine import as_float, compiled, reordered
from probes.loops.pools import pool, scale, slope_of
from probes.loops.steps import step

STAGES = 2
"""Of a step of Adam: scores, gradient."""


@reordered
def dot(row, weights):
    """Σ_j row_j · weights_j of one row as stored."""
    total = np.float32(0)
    for j in range(len(weights)):
        total += as_float(row[j]) * weights[j]
    return total


@reordered
def dot_four(x0, x1, x2, x3, weights):
    """Do ``dot`` for four rows: memory that is read at four places at once comes faster."""
    a, b, c, d = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    for j in range(len(weights)):
        a += as_float(x0[j]) * weights[j]
        b += as_float(x1[j]) * weights[j]
        c += as_float(x2[j]) * weights[j]
        d += as_float(x3[j]) * weights[j]
    return a, b, c, d


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
def score_rows(rows, norms, bounds, theta, z):
    """Write the scores of ``rows`` to z [rows]."""
    width, quarter = len(theta) - 1, len(rows) // 4
    for t in range(len(rows)):
        z[t] = theta[width]
    for feature in range(len(bounds) - 1):
        a, b = bounds[feature], bounds[feature + 1]
        weights, norm = theta[a:b], norms[:, feature]
        for t in range(quarter):
            t1, t2, t3 = t + quarter, t + 2 * quarter, t + 3 * quarter
            s0, s1, s2, s3 = dot_four(rows[t, a:b], rows[t1, a:b], rows[t2, a:b], rows[t3, a:b], weights)
            z[t] += s0 * norm[t]
            z[t1] += s1 * norm[t1]
            z[t2] += s2 * norm[t2]
            z[t3] += s3 * norm[t3]
        for t in range(4 * quarter, len(rows)):
            z[t] += dot(rows[t, a:b], weights) * norm[t]


@compiled
def add_rows(rows, norms, bounds, derivatives, gradient):
    """Add Σ_t derivatives[t] · x_t to ``gradient`` [width + 1]."""
    for feature in range(len(bounds) - 1):
        a, b = bounds[feature], bounds[feature + 1]
        out, norm = gradient[a:b], norms[:, feature]
        whole = len(rows) // 4 * 4
        for t in range(0, whole, 4):
            d0, d1 = derivatives[t] * norm[t], derivatives[t + 1] * norm[t + 1]
            d2, d3 = derivatives[t + 2] * norm[t + 2], derivatives[t + 3] * norm[t + 3]
            # Only a slice of one row is known to numba to be without gaps.
            x0, x1, x2, x3 = rows[t, a:b], rows[t + 1, a:b], rows[t + 2, a:b], rows[t + 3, a:b]
            add_four(d0, d1, d2, d3, x0, x1, x2, x3, out)
        for t in range(whole, len(rows)):
            add_row(derivatives[t] * norm[t], rows[t, a:b], out)


@compiled
def evaluate(clips, begin, end, pools, theta, with_gradient, scores, gradient, room):
    """Write the scores of the clips ``begin:end`` to ``scores`` [all clips, 1] and add up ``gradient`` [width + 1].

    gradient: the derivative of the bias is left alone.
    """
    offsets = clips.offsets
    for clip in range(begin, end):
        first, last = offsets[clip], offsets[clip + 1]
        rows, norms, z = place(clips, first, last, room.buffer), clips.norms[first:last], room.z[: last - first]
        ask(clips, last, min(2 * last - first, offsets[-1]))
        fetch(clips, first, rows)
        score_rows(rows, norms, clips.bounds, theta, z)
        scores[clip, 0] = pool(z, pools.kinds[0], pools.numbers[0])
        if with_gradient:
            scale(z, slope_of(scores[clip, 0], clips.labels[clip], clips.doubled[clip]))
            add_rows(rows, norms, clips.bounds, z, gradient)


@compiled
def share_of(offsets, clip, share):
    """Return the first row of a share of a clip, and the row after its last."""
    first, rows = offsets[clip], offsets[clip + 1] - offsets[clip]
    return first + rows * share // SHARES, first + rows * (share + 1) // SHARES


@compiled
def help_with(board, stage, helper, clips, order, theta, room):
    """Do the shares of a stage that nobody else does; one's own comes first, for its rows are in one's cache."""
    offsets, turn = clips.offsets, (stage - 1) // STAGES
    clip, next_clip = order[turn], order[min(turn + 1, len(order) - 1)]
    for others in range(SHARES):
        share = (helper + others) % SHARES
        if not take(board, stage, share):
            continue
        first, last = share_of(offsets, clip, share)
        begin, end = first - offsets[clip], last - offsets[clip]
        rows, norms, z = place(clips, first, last, room.buffer[begin:]), clips.norms[first:last], room.z[begin:end]
        if stage % STAGES == 1:
            ask(clips, *share_of(offsets, next_clip, share))
            fetch(clips, first, rows)
            score_rows(rows, norms, clips.bounds, theta, z)
        else:
            room.parts[share] = 0
            add_rows(rows, norms, clips.bounds, z, room.parts[share])
        finish(board)


@compiled
def help_walk(board, helper, clips, order, theta, room):
    """Help a thread that is in ``walk`` until it ends; ``helper`` is our number, from 1 on."""
    stage = next_stage(board, 0)
    while stage != END:
        help_with(board, stage, helper, clips, order, theta, room)
        stage = next_stage(board, stage)


@compiled
def add_scaled(factor, row, out):
    """Add ``row`` times ``factor`` to ``out``, which may be longer."""
    for j in range(len(row)):
        out[j] += factor * row[j]


@compiled
def walk(board, clips, order, pools, state, settings, room):
    """Take one step of Adam for each clip of ``order``; helpers may be in ``help_walk`` until ``crew.end``.

    room: z [rows of the longest clip], parts [SHARES, width + 1]. The gradient is that of the loss and of ½·decay·|w|².
    """
    theta = state.theta
    for turn in range(len(order)):
        clip, stage = order[turn], STAGES * turn + 1
        announce(board, stage)
        help_with(board, stage, 0, clips, order, theta, room)
        all_done(board)
        z = room.z[: clips.offsets[clip + 1] - clips.offsets[clip]]
        slope = slope_of(pool(z, pools.kinds[0], pools.numbers[0]), clips.labels[clip], clips.doubled[clip])
        scale(z, slope)
        announce(board, stage + 1)
        help_with(board, stage + 1, 0, clips, order, theta, room)
        all_done(board)
        one, other = room.parts[0], room.parts[1]
        if settings.decay[0] > 0:
            add_scaled(settings.decay[0], theta[:-1], one)
        one[len(theta) - 1] = slope
        step(theta, one, other, state.mean, state.square, settings.adam, settings.steps + turn + 1)
