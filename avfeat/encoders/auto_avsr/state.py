"""The official tensors' names in both layouts: what belongs to which branch, what shapes it has, a network from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avfeat.encoders import shapes
from avfeat.encoders.auto_avsr.model import AudioVisual, branch
from avfeat.encoders.folding import fold_batch_norms
from avfeat.encoders.official import attention_shapes, bare, modality_of, outer_shapes, sizes_of
from avfeat.encoders.readers import Modality, Sizes
from avfeat.encoders.relative import Branch
from avfeat.encoders.shapes import Shapes
from avfeat.errors import WeightsError

_FROM_MAIN = {"frontend.": "encoder.frontend.", "proj_encoder.": "encoder.embed.0."}
"""What the main layout calls otherwise than version 1.0.0."""

SEEING, HEARING, FUSION = "encoder.", "aux_encoder.", "fusion."
"""What stands before the names of the three parts of an audio-visual file; a file of one modality has the first."""


@dataclass(frozen=True)
class Parts:
    """An official file's tensors, by modality, under the names within a branch.

    layout: ``main`` or ``v1``.
    fusion: of an audio-visual file, under the names within ``fusion.``; else empty.
    """

    layout: str
    branches: Mapping[Modality, Mapping[str, Tensor]]
    sizes: Mapping[Modality, Sizes]
    fusion: Mapping[str, Tensor]

    @property
    def inner(self) -> int:
        """Numbers between the fusion's two maps."""
        return self.fusion["fc1.weight"].shape[0]


def parts_of(state: Mapping[str, Tensor], source: str) -> Parts:
    """Return the parts of a file, checked tensor by tensor; its layout and modality are read off the names.

    Raises:
        WeightsError: it is no Auto-AVSR file; a tensor is missing, unknown or of another shape.
    """
    layout = _layout(state, source)
    if layout == "main":
        for old, new in _FROM_MAIN.items():
            state = {new + key.removeprefix(old) if key.startswith(old) else key: each for key, each in state.items()}
    fused = any(key.startswith(FUSION) for key in state)
    prefixes = (SEEING, HEARING, FUSION) if fused else (SEEING,)
    strange = [key for key in state if not key.startswith(prefixes)]
    if strange:
        raise WeightsError(
            f"{source}: {shapes.some(strange)} not known to Auto-AVSR; it may be another network's file."
        )
    found: dict[Modality, Mapping[str, Tensor]] = {}
    sizes: dict[Modality, Sizes] = {}
    for prefix in prefixes[:2]:
        tensors, where = bare(state, prefix), f"{source} ({prefix}*)"
        modality = modality_of(tensors, where)
        found[modality], sizes[modality] = tensors, sizes_of(tensors, where)
        shapes.check_tensors(tensors, branch_shapes(modality, sizes[modality]), where)
    if not fused:
        return Parts(layout, found, sizes, {})
    if set(found) != {"audio", "video"}:
        raise WeightsError(f"{source}: both of its branches read the same stream.")
    parts = Parts(layout, found, sizes, bare(state, FUSION))
    if "fc1.weight" not in parts.fusion:
        raise WeightsError(f"{source}: {FUSION}fc1.weight is missing; the encoder cannot do without.")
    wanted = fusion_shapes(sizes["video"], sizes["audio"], parts.inner)
    shapes.check_tensors(parts.fusion, wanted, f"{source} ({FUSION}*)")
    return parts


def _layout(state: Mapping[str, Tensor], source: str) -> str:
    if "proj_encoder.weight" in state:
        return "main"
    if "encoder.embed.0.weight" in state or "encoder.input_layer.0.weight" in state:
        return "v1"
    raise WeightsError(
        f"{source} holds neither proj_encoder.weight nor encoder.embed.0.weight, so it is no file of Auto-AVSR."
    )


def branch_shapes(modality: Modality, sizes: Sizes) -> Shapes:
    """Return name and shape of every tensor of one modality's network, by the names within a branch."""
    width = sizes.width
    found = outer_shapes(modality, sizes)
    for number in range(sizes.layers):
        name = f"encoders.{number}"
        found |= attention_shapes(f"{name}.self_attn", sizes)
        for each in ("feed_forward", "feed_forward_macaron"):
            found |= shapes.linear(f"{name}.{each}.w_1", sizes.ffn, width)
            found |= shapes.linear(f"{name}.{each}.w_2", width, sizes.ffn)
        for each in ("norm_ff", "norm_mha", "norm_ff_macaron", "norm_conv", "norm_final"):
            found |= shapes.norm(f"{name}.{each}", width)
        found |= {
            f"{name}.conv_module.pointwise_cov1.weight": (2 * width, width, 1),
            f"{name}.conv_module.pointwise_cov1.bias": (2 * width,),
            f"{name}.conv_module.depthwise_conv.weight": (width, 1, sizes.kernel),
            f"{name}.conv_module.depthwise_conv.bias": (width,),
            f"{name}.conv_module.pointwise_cov2.weight": (width, width, 1),
            f"{name}.conv_module.pointwise_cov2.bias": (width,),
        }
        found |= shapes.batch_norm(f"{name}.conv_module.norm", width)
    return found


def fusion_shapes(seeing: Sizes, hearing: Sizes, inner: int) -> Shapes:
    """Return name and shape of every tensor of the fusion, by the names within ``fusion.``."""
    found: Shapes = dict(shapes.linear("fc1", inner, seeing.width + hearing.width))
    found |= shapes.batch_norm("bn1", inner)
    found |= shapes.linear("fc2", seeing.width, inner)
    return found


def branch_of(parts: Parts, modality: Modality) -> Branch:
    """Return one modality's frozen network in evaluation mode, its norms folded."""
    with torch.device("meta"):
        network = branch(modality, parts.sizes[modality])
    _load(network, parts.branches[modality])
    return network


def audio_visual_of(parts: Parts) -> AudioVisual:
    """Return the frozen network of both modalities in evaluation mode, its norms folded."""
    with torch.device("meta"):
        network = AudioVisual(parts.sizes["video"], parts.sizes["audio"], parts.inner)
    tensors = {SEEING + key: tensor for key, tensor in parts.branches["video"].items()}
    tensors |= {HEARING + key: tensor for key, tensor in parts.branches["audio"].items()}
    tensors |= {FUSION + key: tensor for key, tensor in parts.fusion.items()}
    _load(network, tensors)
    return network


def _load(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    folded = fold_batch_norms(tensors)
    network.load_state_dict({key: shapes.own(tensor) for key, tensor in folded.items()}, assign=True)
    network.requires_grad_(False).eval()
