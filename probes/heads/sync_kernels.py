"""The sync head's pass over pairs on a processor: its layers by hand, what lies between the matrix products compiled.

Each frame has 31 pairs and each pair 896 hidden numbers. PyTorch goes over all of them once for the sum of the terms,
once for the norm, once for the ReLU, and back the same way; here one loop forward and one back do it all.

With h a layer's sums, x = (h - mean h) / σ, y = relu(γ x + β), and g the gradient of y where y > 0, else 0:

    dγ = Σ g x,  dβ = Σ g,  dh = (γg - mean(γg) - x · mean(γg x)) / σ

The formulas of the loss are those of sync_offsets.py, whose autograd a GPU follows.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor, nn

compiled: Any = partial(
    numba.njit, cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"}
)


class Layers:
    """The layers after the first sum h, with the gradients of their parameters, which gather here.

    gradients: in the order of ``mlp[1:].parameters()``: for each layer γ, β, weight and bias.
    """

    def __init__(self, later: nn.Module):
        self.norms = [each for each in later.children() if isinstance(each, nn.LayerNorm)]
        self.linears = [each for each in later.children() if isinstance(each, nn.Linear)]
        self.gradients = [torch.zeros_like(each) for each in later.parameters()]

    def learn(self, h: Tensor, offsets: int) -> tuple[float, Tensor]:
        """Add the gradient of the loss of h [frames · offsets, width]; return the loss and dloss/dh. Overwrites h."""
        held = []
        bias = h.new_zeros(h.shape[1])
        for norm, linear in zip(self.norms, self.linears, strict=True):
            y, scale = torch.empty_like(h), h.new_empty(len(h))
            settings = (each.detach().numpy() for each in (bias, norm.weight, norm.bias))
            normalise(h.numpy(), *settings, norm.eps, y.numpy(), scale.numpy())
            held.append((h, y, scale))
            h, bias = y @ linear.weight.T, linear.bias
        chances = (h + bias).view(-1, offsets).log_softmax(1)
        loss = -float(chances[:, offsets // 2].sum())
        slope = chances.exp_()
        slope[:, offsets // 2] -= 1
        slope = slope.view(-1, 1)
        for k in reversed(range(len(held))):
            x, y, scale = held[k]
            of_gain, of_shift, of_weight, of_bias = self.gradients[4 * k : 4 * k + 4]
            of_weight.addmm_(slope.T, y)
            of_bias += slope.sum(0)
            slope = slope @ self.linears[k].weight
            gain = self.norms[k].weight.detach().numpy()
            arrays = (each.numpy() for each in (slope, x, y, scale))
            normalise_back(*arrays, gain, of_gain.numpy(), of_shift.numpy())
        return loss, slope


@compiled()
def add_pairs(video: Any, audio: Any, partners: Any, out: Any) -> None:
    """Write video[t] + audio[partners[t, o]] to the rows of ``out`` [frames · offsets, width]."""
    row = 0
    for t in range(partners.shape[0]):
        for o in range(partners.shape[1]):
            s = partners[t, o]
            for d in range(out.shape[1]):
                out[row, d] = video[t, d] + audio[s, d]
            row += 1


@compiled()
def share_out(slope: Any, partners: Any, of_video: Any, of_audio: Any) -> None:
    """Add each pair's gradient to that of its video frame and that of its audio row."""
    row = 0
    for t in range(partners.shape[0]):
        for o in range(partners.shape[1]):
            s = partners[t, o]
            for d in range(slope.shape[1]):
                of_video[t, d] += slope[row, d]
                of_audio[s, d] += slope[row, d]
            row += 1


@compiled()
def normalise(h: Any, bias: Any, gain: Any, shift: Any, epsilon: Any, y: Any, scale: Any) -> None:
    """Make h + bias its x, and write y and 1/σ."""
    width = h.shape[1]
    for row in range(h.shape[0]):
        total = np.float32(0)
        for d in range(width):
            h[row, d] += bias[d]
            total += h[row, d]
        mean = total / np.float32(width)
        square = np.float32(0)
        for d in range(width):
            apart = h[row, d] - mean
            square += apart * apart
        inverse = np.float32(1) / np.sqrt(square / np.float32(width) + np.float32(epsilon))
        scale[row] = inverse
        for d in range(width):
            x = (h[row, d] - mean) * inverse
            h[row, d] = x
            y[row, d] = max(np.float32(0), x * gain[d] + shift[d])


@compiled()
def normalise_back(slope: Any, x: Any, y: Any, scale: Any, gain: Any, of_gain: Any, of_shift: Any) -> None:
    """Make dloss/dy dloss/dh, and add what belongs to γ and β."""
    width = x.shape[1]
    for row in range(x.shape[0]):
        first = np.float32(0)
        second = np.float32(0)
        for d in range(width):
            g = slope[row, d] if y[row, d] > 0 else np.float32(0)
            of_gain[d] += g * x[row, d]
            of_shift[d] += g
            g *= gain[d]
            slope[row, d] = g
            first += g
            second += g * x[row, d]
        first /= np.float32(width)
        second /= np.float32(width)
        inverse = scale[row]
        for d in range(width):
            slope[row, d] = (slope[row, d] - first - x[row, d] * second) * inverse
