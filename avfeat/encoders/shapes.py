"""The official tensors of common layers by name and shape, and what to say when a file's tensors are not those."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor

from avfeat.errors import WeightsError

Shape = tuple[int, ...]
Shapes = dict[str, Shape]

TRACKED = ".num_batches_tracked"
"""Ends the names of batch norms' counters, which only training uses."""


def linear(name: str, outputs: int, inputs: int) -> Iterator[tuple[str, Shape]]:
    """Yield the tensors of a linear map with a bias."""
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def norm(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    """Yield the tensors of a layer norm."""
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def batch_norm(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    """Yield the tensors of a batch norm, its statistics too."""
    yield from norm(name, width)
    yield f"{name}.running_mean", (width,)
    yield f"{name}.running_var", (width,)


def resnet_stages(name: str, width: int, kernel: Shape, slopes: bool) -> Iterator[tuple[str, Shape]]:
    """Yield the tensors of the four stages of a ResNet-18.

    Args:
        name: what stands before ``.layer1``.
        width: channels of the first stage.
        kernel: (3, 3) over pictures, (3,) over sound.
        slopes: whether its activations are PReLU, with a slope for each channel.
    """
    for stage in range(4):
        outputs = width * 2**stage
        for number in range(2):
            block = f"{name}.layer{stage + 1}.{number}"
            inputs = outputs // 2 if stage and not number else outputs
            yield f"{block}.conv1.weight", (outputs, inputs, *kernel)
            yield from batch_norm(f"{block}.bn1", outputs)
            if slopes:
                yield f"{block}.relu1.weight", (outputs,)
                yield f"{block}.relu2.weight", (outputs,)
            yield f"{block}.conv2.weight", (outputs, outputs, *kernel)
            yield from batch_norm(f"{block}.bn2", outputs)
            if inputs != outputs:
                yield f"{block}.downsample.0.weight", (outputs, inputs, *(1 for _ in kernel))
                yield from batch_norm(f"{block}.downsample.1", outputs)


def lip_resnet(name: str, width: int, slopes: bool) -> Iterator[tuple[str, Shape]]:
    """Yield the tensors of the lips' front-end: a 3-D convolution and a ResNet-18 over pictures."""
    yield f"{name}.frontend3D.0.weight", (width, 1, 5, 7, 7)
    yield from batch_norm(f"{name}.frontend3D.1", width)
    if slopes:
        yield f"{name}.frontend3D.2.weight", (width,)
    yield from resnet_stages(f"{name}.trunk", width, (3, 3), slopes)


def sound_resnet(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    """Yield the tensors of the sound's front-end: a ResNet-18 over samples."""
    yield f"{name}.trunk.conv1.weight", (width, 1, 80)
    yield from batch_norm(f"{name}.trunk.bn1", width)
    yield from resnet_stages(f"{name}.trunk", width, (3,), False)


def check_tensors(tensors: Mapping[str, Tensor], shapes: Mapping[str, Shape], source: str) -> None:
    """See that every tensor that an encoder needs is there, and no other.

    Raises:
        WeightsError: a tensor is missing, unknown or of another shape; names it.
    """
    missing = [key for key in shapes if key not in tensors]
    if missing:
        raise WeightsError(f"{source}: {some(missing)} missing; the encoder cannot do without.")
    unknown = [key for key in tensors if key not in shapes]
    if unknown:
        raise WeightsError(f"{source}: {some(unknown)} not known to this encoder; it may be another network's file.")
    for key, shape in shapes.items():
        if tuple(tensors[key].shape) != shape:
            raise WeightsError(f"{source}: {key} has shape {list(tensors[key].shape)}, not {list(shape)}.")


def own(tensor: Tensor) -> Tensor:
    """Return a copy that no file is mapped behind; pictures' kernels with channels last, as their inputs are."""
    return tensor.clone(memory_format=torch.channels_last if tensor.ndim == 4 else torch.contiguous_format)


def some(keys: Sequence[str]) -> str:
    """Return up to five of the names and how many more there are, with a verb: ``a, b are``."""
    shown = ", ".join(islice(keys, 5))
    return f"{shown} and {len(keys) - 5} more are" if len(keys) > 5 else f"{shown} {'is' if len(keys) == 1 else 'are'}"
