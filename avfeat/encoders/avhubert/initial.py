"""Fresh weights as the reference initialises them: the paper's baseline of an encoder that has learned nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import torch
from torch import Tensor

from avfeat.encoders.avhubert.published import Architecture
from avfeat.encoders.avhubert.state import official_shapes

Shape = tuple[int, ...]
Spread = Callable[[Shape, Architecture], float]


def _normal(spread: Spread) -> Callable[[Shape, Architecture, torch.Generator], Tensor]:
    return lambda shape, net, generator: torch.randn(shape, generator=generator).mul_(spread(shape, net))


def _uniform(spread: Spread) -> Callable[[Shape, Architecture, torch.Generator], Tensor]:
    return lambda shape, net, generator: torch.empty(shape).uniform_(
        -spread(shape, net), spread(shape, net), generator=generator
    )


def _constant(value: float) -> Callable[[Shape, Architecture, torch.Generator], Tensor]:
    return lambda shape, net, generator: torch.full(shape, value)


# The first pattern that is found in the bare official name decides. Linear maps outside the blocks and the stem have
# PyTorch's own defaults: weights and biases uniform within 1 / sqrt(inputs).
_RULES = tuple(
    (re.compile(pattern), fill)
    for pattern, fill in (
        (r"running_var$|norm\.weight$|\.bn\d\.weight$|\.1\.weight$", _constant(1.0)),
        (r"relu\d\.weight$|frontend3D\.2\.weight$", _constant(0.25)),
        (r"weight_v$", _normal(lambda shape, net: math.sqrt(4 / (net.conv_kernel * net.width)))),
        (r"^encoder\.layers\..*(proj|fc\d)\.weight$", _normal(lambda shape, net: 0.02)),
        (r"frontend3D\.0\.weight$|proj\.weight$", _uniform(lambda shape, net: 1 / math.sqrt(math.prod(shape[1:])))),
        (
            r"conv\d\.weight$|downsample\.0\.weight$",
            _normal(lambda shape, net: math.sqrt(2 / (shape[0] * shape[2] ** 2))),
        ),
        (r"^feature_extractor_audio\.proj\.bias$", _uniform(lambda shape, net: 1 / math.sqrt(net.audio_width))),
        (r"^feature_extractor_video\.proj\.bias$", _uniform(lambda shape, net: 1 / math.sqrt(8 * net.resnet_width))),
        (r"^post_extract_proj\.bias$", _uniform(lambda shape, net: 1 / math.sqrt(2 * net.width))),
        (r"bias$|running_mean$|weight_g$", _constant(0.0)),
    )
)


def random_tensors(architecture: Architecture, seed: int) -> dict[str, Tensor]:
    """Return float32 tensors under their bare official names; the same seed gives the same ones.

    The ResNet's convolutions are normal with std sqrt(2 / (k k outputs)), the position convolution with
    sqrt(4 / (kernel width)) and weight-normalised as it is, the blocks' linear maps with 0.02; PReLU slopes are 0.25,
    norms 1 and 0, all other biases of convolutions and blocks 0.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for key, shape in official_shapes(architecture).items():
        fill = next(fill for pattern, fill in _RULES if pattern.search(key))
        tensors[key] = fill(shape, architecture, generator)
    position = "encoder.pos_conv.0"
    tensors[f"{position}.weight_g"] = tensors[f"{position}.weight_v"].norm(dim=(0, 1), keepdim=True)
    return tensors
