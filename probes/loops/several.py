"""K probes at once: rows are converted and divided by their norms once, then multiplied with the weights of all.

The parameters of all probes are columns, [parameters, probes]: the weights, then, in the row after the last weight, the
biases; gradients and the state of Adam have the same form. There are more rows and columns than parameters and probes,
filled with zeros, so that tiles fit in (products.py); the frames of the clips at hand and their scores, ``room.rows``
[rows, width] and ``room.z`` [rows, probes], lie in whole tiles too.
"""

from __future__ import annotations

import numpy as np

from probes.loops.crew import END, SHARES, all_done, announce, finish, next_stage, take
from probes.loops.fetching import coming, fetch, place
from probes.loops.machine import as_float, compiled, maximum, reordered
from probes.loops.pools import LSE, LSE_MEAN, exp, pool, slope_of
from probes.loops.products import NARROW, ROWS, add_product
from probes.loops.steps import step

STAGES = 4
"""Of a step of Adam: scores, poolings, gradient, parameters."""

HELD = 64
"""Rows whose part of the gradient is summed up at a time: their scores stay in the nearest cache."""


@compiled
def up(number, step):
    """The next multiple of ``step``."""
    return (number + step - 1) // step * step


@reordered
def convert(row, norm, out):
    """Write one row as stored, times ``norm``, to ``out``."""
    for j in range(len(out)):
        out[j] = as_float(row[j]) * norm


@compiled
def normalise(frames, norms, bounds, out):
    """Write frames to ``out``, each feature's part times its norm."""
    for t in range(len(frames)):
        for feature in range(len(bounds) - 1):
            a, b = bounds[feature], bounds[feature + 1]
            convert(frames[t, a:b], norms[t, feature], out[t, a:b])


@compiled
def score(clips, first, last, theta, buffer, rows, z):
    """Write the frames ``first:last`` divided by their norms to ``rows``, and their scores to z.

    buffer: room for them as stored; see fetching.py.
    """
    frames, norms = place(clips, first, last, buffer), clips.norms[first:last]
    count, width = frames.shape
    weights = theta[:width]
    fetch(clips, first, frames)
    for i in range(0, count, ROWS):
        end = min(count, i + ROWS)
        normalise(frames[i:end], norms[i:end], clips.bounds, rows[i:end])
        for t in range(i, end):
            z[t] = theta[width]
        add_product(rows[i : i + ROWS], weights, z[i : i + ROWS], frames[:0])


@reordered
def raise_to(top, row):
    """Make each of ``top`` at least that of the row."""
    for k in range(len(top)):
        top[k] = maximum(top[k], row[k])


@reordered
def exponentiate(row, top, factors, totals):
    """Make a row exp((row - top) · factors), and add it to ``totals``."""
    for k in range(len(top)):
        row[k] = exp((row[k] - top[k]) * factors[k])
        totals[k] += row[k]


@reordered
def multiply(row, factors):
    """Multiply each of a row by its factor."""
    for k in range(len(factors)):
        row[k] *= factors[k]


@compiled
def pool_lse(z, first, last, label, doubled, pools, scores, slopes):
    """Do what ``pool_some`` does for the pools lse and lse-mean: probe beside probe, as the scores lie."""
    end = min(last, len(scores))
    top, totals, factors = z[0, first:last].copy(), np.zeros_like(z[0, first:last]), np.zeros_like(z[0, first:last])
    for k in range(first, end):
        factors[k - first] = 1 / pools.numbers[k]
    for t in range(len(z)):
        raise_to(top, z[t, first:last])
    for t in range(len(z)):
        exponentiate(z[t, first:last], top, factors, totals)
    for k in range(first, end):
        own = k - first
        total = totals[own] / np.float32(len(z)) if pools.kinds[k] == LSE_MEAN else totals[own]
        scores[k] = top[own] + pools.numbers[k] * np.log(total)
        slopes[k] = slope_of(scores[k], label, doubled)
        factors[own] = slopes[k] / totals[own]
    for t in range(len(z)):
        multiply(z[t, first:last], factors)


@compiled
def pool_some(z, first, last, label, doubled, pools, scores, slopes):
    """Write the scores [probes] of a clip, and dloss/ds, for the probes in the columns ``first:last`` of z.

    z: [rows, columns], the frame scores, which become dloss/dz.
    """
    kinds = pools.kinds[first:last]
    if ((kinds == LSE) | (kinds == LSE_MEAN)).all():
        pool_lse(z, first, last, label, doubled, pools, scores, slopes)
        return
    for k in range(first, min(last, len(scores))):
        own = z[:, k].copy()
        scores[k] = pool(own, pools.kinds[k], pools.numbers[k])
        slopes[k] = slope_of(scores[k], label, doubled)
        for t in range(len(z)):
            z[t, k] = own[t] * slopes[k]


@compiled
def add_gradient(rows, count, z, following, gradient):
    """Add Σ_t z_t · x_t over the first ``count`` rows to ``gradient``; meanwhile prefetch the ``following`` frames."""
    turned = rows.T
    for first in range(0, count, HELD):
        last = min(count, first + HELD)
        add_product(turned[:, first:last], z[first:last], gradient, following[first:last])


@compiled
def evaluate(clips, begin, end, pools, theta, with_gradient, scores, gradient, room):
    """Write the scores of the clips ``begin:end`` to ``scores`` [all clips, probes] and add up ``gradient``.

    The derivatives of the biases are left alone.
    """
    for clip in range(begin, end):
        first, last = clips.offsets[clip], clips.offsets[clip + 1]
        following = coming(clips, last, min(2 * last - first, clips.offsets[-1]))
        score(clips, first, last, theta, room.buffer, room.rows, room.z)
        z, label, doubled = room.z[: last - first], clips.labels[clip], clips.doubled[clip]
        pool_some(z, 0, z.shape[1], label, doubled, pools, scores[clip], room.slopes)
        if with_gradient:
            add_gradient(room.rows, last - first, z, following, gradient)


@compiled
def row_share(count, share):
    """Return the first row of a share of ``count`` rows, and the row after its last; whole tiles."""
    return min(count, up(count * share // SHARES, ROWS)), min(count, up(count * (share + 1) // SHARES, ROWS))


@compiled
def score_share(share, clips, clip, theta, room):
    """Stage 1: scores of a share of the rows."""
    first = clips.offsets[clip]
    begin, end = row_share(clips.offsets[clip + 1] - first, share)
    score(clips, first + begin, first + end, theta, room.buffer[begin:], room.rows[begin:], room.z[begin:])


@compiled
def pool_share(share, clips, clip, pools, room):
    """Stage 2: the poolings of a share of the probes, that is of whole lines of the cache."""
    z, probes = room.z[: clips.offsets[clip + 1] - clips.offsets[clip]], len(pools.kinds)
    first, last = up(probes * share // SHARES, NARROW), up(probes * (share + 1) // SHARES, NARROW)
    scores = np.empty(probes, np.float32)
    pool_some(z, first, last, clips.labels[clip], clips.doubled[clip], pools, scores, room.slopes)


@compiled
def gradient_share(share, clips, clip, next_clip, room):
    """Stage 3: the gradient of a share of the rows; meanwhile the same share of the next clip is prefetched."""
    begin, end = row_share(clips.offsets[clip + 1] - clips.offsets[clip], share)
    next_first = clips.offsets[next_clip]
    start, stop = row_share(clips.offsets[next_clip + 1] - next_first, share)
    following = coming(clips, next_first + start, next_first + stop)
    part = room.parts[share]
    part[:] = 0
    add_gradient(room.rows[begin:], end - begin, room.z[begin:], following, part)


@compiled
def step_share(share, width, state, settings, room, turn):
    """Stage 4: the sum of the shares' gradients, and Adam, for a share of the parameters.

    To the gradient of the loss comes that of ½·decay·|w|²; that of the biases are the slopes.
    """
    own = slice((width + 1) * share // SHARES, (width + 1) * (share + 1) // SHARES)
    one, other = room.parts[0], room.parts[1]
    if settings.decay.any():
        for j in range(own.start, min(own.stop, width)):
            for k in range(len(settings.decay)):
                one[j, k] += settings.decay[k] * state.theta[j, k]
    if own.stop > width:
        for k in range(len(room.slopes)):
            one[width, k] = room.slopes[k]
    step(
        state.theta[own].reshape(-1),
        one[own].reshape(-1),
        other[own].reshape(-1),
        state.mean[own].reshape(-1),
        state.square[own].reshape(-1),
        settings.adam,
        settings.steps + turn + 1,
    )


@compiled
def help_with(board, stage, helper, clips, order, pools, state, settings, room):
    """Do the shares of a stage that nobody else does; one's own comes first, for its rows are in one's cache."""
    turn = (stage - 1) // STAGES
    clip, next_clip = order[turn], order[min(turn + 1, len(order) - 1)]
    for others in range(SHARES):
        share = (helper + others) % SHARES
        if take(board, stage, share):
            if stage % STAGES == 1:
                score_share(share, clips, clip, state.theta, room)
            elif stage % STAGES == 2:
                pool_share(share, clips, clip, pools, room)
            elif stage % STAGES == 3:
                gradient_share(share, clips, clip, next_clip, room)
            else:
                step_share(share, clips.frames.shape[1], state, settings, room, turn)
            finish(board)


@compiled
def help_walk(board, helper, clips, order, pools, state, settings, room):
    """Help a thread that is in ``walk`` until it ends; ``helper`` is our number, from 1 on."""
    stage = next_stage(board, 0)
    while stage != END:
        help_with(board, stage, helper, clips, order, pools, state, settings, room)
        stage = next_stage(board, stage)


@compiled
def walk(board, clips, order, pools, state, settings, room):
    """Take one step of Adam for each clip of ``order``; helpers may be in ``help_walk`` until ``crew.end``.

    room: also parts [SHARES, …], each of the form of the parameters, and slopes [probes].
    """
    for stage in range(1, STAGES * len(order) + 1):
        announce(board, stage)
        help_with(board, stage, 0, clips, order, pools, state, settings, room)
        all_done(board)
