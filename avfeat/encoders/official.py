"""Official files of Auto-AVSR and BRAVEn: one flat table of tensors, the encoder's and a recogniser's around it."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from avfeat.checkpoints import open_checkpoint
from avfeat.encoders import shapes
from avfeat.encoders.base import WeightFile
from avfeat.encoders.readers import Modality, Sizes, how_to_get, published_path
from avfeat.encoders.shapes import Shapes
from avfeat.errors import WeightsError
from avfeat.weights import read_tensors

IGNORED = ("decoder.", "ctc.")
"""Names beside the encoder: the recogniser's own layers."""

NOT_NEEDED = (shapes.TRACKED, ".pe")
"""Ends of names inside the encoder that are not read: counters of training, and the table of positions."""

RENAMED = {"norm.": "after_norm.", "input_layer.": "embed."}
"""Older names within a branch, which the reference accepts too."""

SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
"""Of the files that are looked at in a folder."""

_LIGHTNING = "model."
_STEM = {"video": "frontend.frontend3D.0.weight", "audio": "frontend.trunk.conv1.weight"}
_BLOCK = re.compile(r"encoders\.(\d+)\.")


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of an official file that an encoder may need.

    Official files are one table; a trainer's checkpoint holds it as ``state_dict``, with ``model.`` before each name.

    Raises:
        WeightsError: it cannot be read, or holds something else; or a front-end alone.
    """
    if path.suffix == ".safetensors":
        state: object = read_tensors(path)
    else:
        content = open_checkpoint(path).content
        if "model_state_dict" in content:
            raise WeightsError(f"{path} holds a front-end that was trained on words alone: take a recogniser's file.")
        state = content.get("state_dict", content)
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise WeightsError(f"{path} holds no flat table of tensors, so it is no official file of this family.")
    if state and all(key.startswith(_LIGHTNING) for key in state):
        state = {key.removeprefix(_LIGHTNING): tensor for key, tensor in state.items()}
    return needed(state)


def needed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``state`` without the names on the written lists, floats as float32."""
    return {
        key: tensor.float() if tensor.is_floating_point() else tensor
        for key, tensor in state.items()
        if not key.startswith(IGNORED) and not key.endswith(NOT_NEEDED)
    }


def choose_files(
    family: str,
    reads: Mapping[str, Collection[Modality]],
    published: Mapping[str, WeightFile],
    given: Path | None,
    look: Callable[[Path], Collection[Modality]],
) -> dict[str, Path]:
    """Return the file for each stream: the published one in the cache, the user's, or the fitting one of a folder.

    Args:
        family: the encoder's name.
        reads: for each stream wanted what its network reads.
        published: the file for each stream.
        given: a user's file, for all streams, or a folder that holds one file for each.
        look: what the network in a file reads; names of files say nothing.

    Raises:
        WeightsError: there is no file for a stream, or there are several.
    """
    if given is None:
        files = {stream: published[stream] for stream in reads}
        if absent := how_to_get(family, files):
            raise WeightsError(f"{family}: {absent}.")
        return {stream: published_path(family, file) for stream, file in files.items()}
    if not given.is_dir():
        return dict.fromkeys(reads, given)
    found = {path: set(look(path)) for path in sorted(given.iterdir()) if path.suffix in SUFFIXES}
    chosen = {}
    for stream, wanted in reads.items():
        fitting = [path for path, there in found.items() if there == set(wanted)]
        if len(fitting) != 1:
            names = ", ".join(path.name for path in fitting) or "none"
            raise WeightsError(
                f"{family}.{stream}: {given} should hold one file of a network that reads {' and '.join(wanted)}; "
                f"it holds {names}."
            )
        chosen[stream] = fitting[0]
    return chosen


def bare(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return one branch's tensors without ``prefix``, older names replaced; it comes off at the start of names only."""
    found = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    for old, new in RENAMED.items():
        found = {new + key.removeprefix(old) if key.startswith(old) else key: each for key, each in found.items()}
    return found


def modality_of(tensors: Mapping[str, Tensor], source: str) -> Modality:
    """Return what a branch reads.

    Raises:
        WeightsError: neither front-end is there.
    """
    if _STEM["video"] in tensors:
        return "video"
    if _STEM["audio"] in tensors:
        return "audio"
    raise WeightsError(f"{source}: neither {_STEM['video']} nor {_STEM['audio']} is there, so it reads nothing.")


def sizes_of(tensors: Mapping[str, Tensor], source: str) -> Sizes:
    """Return the sizes that a branch's tensors show.

    Raises:
        WeightsError: a tensor that is needed for it is missing; names it.
    """

    def shape(key: str, axes: int) -> tuple[int, ...]:
        if key not in tensors or tensors[key].ndim != axes:
            raise WeightsError(
                f"{source}: the tensor {key} with {axes} axes is missing; the encoder cannot do without."
            )
        return tuple(tensors[key].shape)

    modality = modality_of(tensors, source)
    kernel = "encoders.0.conv_module.depthwise_conv.weight"
    return Sizes(
        width=shape("embed.0.weight", 2)[0],
        layers=max((int(match[1]) for key in tensors if (match := _BLOCK.match(key))), default=-1) + 1,
        ffn=shape("encoders.0.feed_forward.w_1.weight", 2)[0],
        heads=shape("encoders.0.self_attn.pos_bias_u", 2)[0],
        kernel=shape(kernel, 3)[2] if kernel in tensors else 0,
        resnet_width=shape(_STEM[modality], 5 if modality == "video" else 3)[0],
    )


def check_sizes(found: Sizes, promised: Sizes, source: str, name: str) -> None:
    """See that a file's network is the one that its features' name promises.

    Raises:
        WeightsError: it is not.
    """
    if found != promised:
        holds, wants = (
            f"width {each.width}, {each.layers} blocks, {each.heads} heads, {each.ffn} inner numbers, a kernel of "
            f"{each.kernel} and a ResNet of {each.resnet_width}"
            for each in (found, promised)
        )
        raise WeightsError(f"{source} holds a network of {holds}; {name} has {wants}.")


def outer_shapes(modality: Modality, sizes: Sizes) -> Shapes:
    """Return the tensors of a branch around its blocks."""
    found: Shapes = {}
    if modality == "video":
        found |= shapes.lip_resnet("frontend", sizes.resnet_width, slopes=False)
    else:
        found |= shapes.sound_resnet("frontend", sizes.resnet_width)
    found |= shapes.linear("embed.0", sizes.width, 8 * sizes.resnet_width)
    found |= shapes.norm("after_norm", sizes.width)
    return found


def attention_shapes(name: str, sizes: Sizes) -> Shapes:
    """Return the tensors of one block's attention."""
    found: Shapes = {}
    for each in ("linear_q", "linear_k", "linear_v", "linear_out"):
        found |= shapes.linear(f"{name}.{each}", sizes.width, sizes.width)
    found[f"{name}.linear_pos.weight"] = (sizes.width, sizes.width)
    for each in ("pos_bias_u", "pos_bias_v"):
        found[f"{name}.{each}"] = (sizes.heads, sizes.width // sizes.heads)
    return found


def fresh_tensors(wanted: Mapping[str, tuple[int, ...]], seed: int, what: str) -> dict[str, Tensor]:
    """Return float32 tensors that have learned nothing; the same seed and ``what`` give the same ones.

    As the reference starts: weights and biases of maps uniform within 1 / sqrt(inputs), which is PyTorch's default,
    norms 1 and 0, the biases u and v of attention Xavier uniform, channel scales (``gamma``) 0.1. But the ResNets'
    convolutions are He normal: with PyTorch's default and norms that have seen nothing, no sound would reach their end.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{what}".encode()))
    return {key: _fresh(key, shape, wanted, generator) for key, shape in wanted.items()}


def _fresh(
    key: str, shape: tuple[int, ...], wanted: Mapping[str, tuple[int, ...]], generator: torch.Generator
) -> Tensor:
    name, _, last = key.rpartition(".")
    weight = wanted.get(f"{name}.weight", ())
    if last.startswith("gamma"):
        return torch.full(shape, 0.1)
    if last.startswith("pos_bias"):
        bound = math.sqrt(6 / sum(shape))
    elif len(weight) == 1:
        return torch.full(shape, 1.0 if last in ("weight", "running_var") else 0.0)
    elif name.startswith("frontend."):
        return torch.randn(shape, generator=generator) * math.sqrt(2 / math.prod(shape[1:]))
    else:
        bound = 1 / math.sqrt(math.prod(weight[1:]))
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)
