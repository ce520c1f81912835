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
    (re.compile(r"fusion\.bn1$"), "fusion.fc1"),
    (re.compile(r"bn(\d)$"), r"conv\1"),
    (re.compile(r"conv_module\.norm$"), "conv_module.depthwise_conv"),
)


def fold_batch_norms(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``tensors`` with every batch norm folded into the weight and bias of the convolution that it follows.

    y = gamma (conv(x) - mean) / sqrt(var + eps) + beta, so weight' = weight s and bias' = (bias - mean) s + beta with
    s = gamma / sqrt(var + eps); computed in float64. Names as in the official files: ``bn1`` follows ``conv1``,
    ``frontend3D.1`` follows ``frontend3D.0``, ``downsample.1`` follows ``downsample.0``; in a Conformer's
    ``conv_module`` the ``norm`` follows ``depthwise_conv``; ``fusion.bn1`` follows the linear map ``fusion.fc1``.
    """
    folded = dict(tensors)
    for key in tensors:
        norm, dot, last = key.rpartition(".running_mean")
        if not dot or last:
            continue
        convolution = _convolution(norm)
        scale, shift = _pop_scale_and_shift(folded, norm)
        weight, bias = tensors[f"{convolution}.weight"], tensors.get(f"{convolution}.bias")
        spread = scale.view(-1, *[1] * (weight.ndim - 1))
        folded[f"{convolution}.weight"] = (weight.double() * spread).to(weight.dtype)
        folded[f"{convolution}.bias"] = (shift if bias is None else bias.double() * scale + shift).to(weight.dtype)
    return folded


def fold_into_next(tensors: Mapping[str, Tensor], norm: str, linear: str) -> dict[str, Tensor]:
    """Return ``tensors`` with the batch norm ``norm`` folded into the linear map that reads it.

    W (s x + t) + b = (W diag(s)) x + (W t + b), computed in float64.
    """
    folded = dict(tensors)
    scale, shift = _pop_scale_and_shift(folded, norm)
    weight, bias = (tensors[f"{linear}.{name}"] for name in ("weight", "bias"))
    folded[f"{linear}.weight"] = (weight.double() * scale).to(weight.dtype)
    folded[f"{linear}.bias"] = (bias.double() + weight.double() @ shift).to(weight.dtype)
    return folded


def _pop_scale_and_shift(tensors: dict[str, Tensor], norm: str) -> tuple[Tensor, Tensor]:
    """Return s and t so that the batch norm is s x + t, in float64, and take it out of ``tensors``."""
    gamma, beta, mean, var = (
        tensors.pop(f"{norm}.{name}").double() for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / torch.sqrt(var + EPSILON)
    return scale, beta - mean * scale


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
