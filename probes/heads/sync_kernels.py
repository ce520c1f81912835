"""The loops of the sync head's pass over pairs on a processor, compiled by numba: all that is no matrix product.

A frame has 31 pairs and a pair 896 hidden numbers. PyTorch would go over all of them once for the sum of the terms,
once for the norm, once for the ReLU, and back the same way; here what is done to a row is done while the nearest cache
holds it. With h a row of a layer's sums, x = (h - mean h) / σ, y = relu(γ x + β), and g the gradient of y where y > 0,
else 0:

    dγ = Σ g x,  dβ = Σ g,  dh = (γg - mean(γg) - x · mean(γg x)) / σ

No loop over the numbers of a row writes to more than two arrays or touches more than five: before a loop that takes
many numbers at once the compiler must see that no two arrays overlap, and beyond eight such tests it gives up.

Arguments: numbers are all float32 or all float64. h, x, y and slope are [rows, width] with a row for each pair, those
of a frame side by side: ``starts`` int64 [frames + 1] says where those of each begin, ``heard`` int64 [rows] which
audio row each has. video [frames, width] and audio are the terms of h, less their means; bias, gain and shift [width]
are the bias of the layer before, γ and β; scales [rows] are 1/σ. ``of_something`` is a gradient, to which is added.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numba
import numpy as np

# Terms of a sum may change places: only then can it be spread over the lanes of a processor.
compiled: Any = partial(
    numba.njit, cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"}
)


@compiled()
def list_pairs(partners, silence):
    """List the pairs of each frame; those that are equal, with the audio row ``silence``, are one.

    partners: int64 [frames, offsets], the audio row for each offset.

    Returns:
        starts and heard; times float64 [rows], how often a frame has each; middles int64 [frames], which row is the
        frame with its own audio, counted from the frame's first.
    """
    starts = np.zeros(len(partners) + 1, np.int64)
    heard = np.empty(partners.size, np.int64)
    times = np.ones(partners.size)
    middles = np.empty(len(partners), np.int64)
    row = 0
    for t in range(len(partners)):
        silent = -1
        for o in range(partners.shape[1]):
            if o == partners.shape[1] // 2:
                middles[t] = row - starts[t]
            if partners[t, o] == silence and silent >= 0:
                times[silent] += 1
                continue
            if partners[t, o] == silence:
                silent = row
            heard[row] = partners[t, o]
            row += 1
        starts[t + 1] = row
    return starts, heard[:row], times[:row], middles


@compiled()
def pairs_forward(video, audio, starts, heard, gain, shift, epsilon, scales, y):
    """Write y and scales of h = video[t] + audio[heard[row]], which is not kept."""
    width = y.shape[1]
    for t in range(len(video)):
        for row in range(starts[t] - starts[0], starts[t + 1] - starts[0]):
            s = heard[row]
            square = np.float32(0)
            for d in range(width):
                h = video[t, d] + audio[s, d]
                square += h * h
            scale = np.float32(1) / np.sqrt(square / np.float32(width) + np.float32(epsilon))
            scales[row] = scale
            for d in range(width):
                z = (video[t, d] + audio[s, d]) * scale * gain[d] + shift[d]
                y[row, d] = np.float32(0) if z < 0 else z  # what is no number stays none


@compiled()
def pairs_back(slope, y, video, audio, starts, heard, gain, scales, of_gain, of_shift, of_video, of_audio):
    """Take ``slope``, dloss/dy, back to the terms of h; overwrites ``slope`` and y, and ``of_video`` too."""
    width = y.shape[1]
    for t in range(len(video)):
        of_video[t] = 0
        for row in range(starts[t] - starts[0], starts[t + 1] - starts[0]):
            s, scale = heard[row], scales[row]
            first = np.float32(0)
            second = np.float32(0)
            for d in range(width):
                g = np.float32(0) if y[row, d] <= 0 else slope[row, d]
                x = (video[t, d] + audio[s, d]) * scale
                slope[row, d] = g
                y[row, d] = x
                first += g * gain[d]
                second += g * gain[d] * x
            first /= np.float32(width)
            second /= np.float32(width)
            for d in range(width):
                of_gain[d] += slope[row, d] * y[row, d]
                of_shift[d] += slope[row, d]
            for d in range(width):
                of_h = (slope[row, d] * gain[d] - first - y[row, d] * second) * scale
                of_video[t, d] += of_h
                of_audio[s, d] += of_h


@compiled()
def layer_forward(h, bias, gain, shift, epsilon, scales, y):
    """Make h, which lacks its bias, its x, and write y and scales."""
    width = h.shape[1]
    for row in range(len(h)):
        total = np.float32(0)
        for d in range(width):
            h[row, d] += bias[d]
            total += h[row, d]
        mean = total / np.float32(width)
        square = np.float32(0)
        for d in range(width):
            square += (h[row, d] - mean) * (h[row, d] - mean)
        scale = np.float32(1) / np.sqrt(square / np.float32(width) + np.float32(epsilon))
        scales[row] = scale
        for d in range(width):
            x = (h[row, d] - mean) * scale
            z = x * gain[d] + shift[d]
            h[row, d] = x
            y[row, d] = np.float32(0) if z < 0 else z


@compiled()
def layer_back(slope, x, y, gain, scales, of_gain, of_shift, of_bias):
    """Make ``slope``, dloss/dy, dloss/dh."""
    width = x.shape[1]
    for row in range(len(x)):
        first = np.float32(0)
        second = np.float32(0)
        for d in range(width):
            g = np.float32(0) if y[row, d] <= 0 else slope[row, d]
            slope[row, d] = g
            first += g * gain[d]
            second += g * gain[d] * x[row, d]
        first /= np.float32(width)
        second /= np.float32(width)
        for d in range(width):
            of_gain[d] += slope[row, d] * x[row, d]
            of_shift[d] += slope[row, d]
        for d in range(width):
            of_h = (slope[row, d] * gain[d] - first - x[row, d] * second) * scales[row]
            slope[row, d] = of_h
            of_bias[d] += of_h


@compiled()
def loss_and_slope(outputs, starts, times, middles, bias, of_bias):
    """Return the loss of outputs [rows, 1], which lack their bias [1], and make them dloss/d outputs.

    times: [rows] and middles [frames] of ``list_pairs``.
    """
    loss = 0.0
    for t in range(len(middles)):
        rows = slice(starts[t] - starts[0], starts[t + 1] - starts[0])
        z = outputs[rows, 0]
        z += bias[0]
        highest = z.max()
        loss += highest - z[middles[t]]
        z[:] = np.exp(z - highest) * times[rows]
        total = z.sum()
        loss += np.log(total)
        z /= total
        z[middles[t]] -= 1
        of_bias += z.sum()
    return loss
