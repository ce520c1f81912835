"""Fold norms into the convolutions that they follow: official tensors in, tensors for ``blocks.py`` out."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

EPSILON = 1e-5
"""PyTorch's default for batch norms, which all supported encoders keep."""

_CONVOLUTION_OF = (
    (re.compile(r"frontend3D\.1$"), "frontend3D.0"),
    (re.compile(r"downsample\.1$"), "downsample.0"),
    (re.compile(r"bn(\d)$"), r"conv\1"),
)


def fold_batch_norms(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``tensors`` with every batch norm of a ResNet folded into the weight and bias of its convolution.

    y = gamma (conv(x) - mean) / sqrt(var + eps) + beta, so weight' = weight s and bias' = beta - mean s with
    s = gamma / sqrt(var + eps); computed in float64. Names as in the official files: ``bn1`` follows ``conv1``,
    ``frontend3D.1`` follows ``frontend3D.0``, ``downsample.1`` follows ``downsample.0``.
    """
    folded = dict(tensors)
    for key in tensors:
        norm, dot, last = key.rpartition(".running_mean")
        if not dot or last:
            continue
        convolution = _convolution(norm)
        gamma, beta, mean, var = (
            folded.pop(f"{norm}.{name}").double() for name in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / torch.sqrt(var + EPSILON)
        weight = tensors[f"{convolution}.weight"]
        spread = scale.view(-1, *[1] * (weight.ndim - 1))
        folded[f"{convolution}.weight"] = (weight.double() * spread).to(weight.dtype)
        folded[f"{convolution}.bias"] = (beta - mean * scale).to(weight.dtype)
    return folded


def _convolution(norm: str) -> str:
    for pattern, replacement in _CONVOLUTION_OF:
        name, found = pattern.subn(replacement, norm)
        if found:
            return name
    raise AssertionError(f"no convolution is known for the batch norm {norm}")


def fold_weight_norm(gain: Tensor, direction: Tensor) -> Tensor:
    """Return gain * direction / ||direction||, the norm taken for each tap over all other axes (``dim=2``).

    Args:
        gain: [1, 1, taps].
        direction: [outputs, inputs / groups, taps].
    """
    wide = direction.double()
    norms = torch.linalg.vector_norm(wide, dim=(0, 1), keepdim=True)
    weight: Tensor = gain.double() * wide / norms
    return weight.to(direction.dtype)
