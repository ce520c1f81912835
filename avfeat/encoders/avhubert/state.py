"""The official tensors' names: what belongs to the encoder, what shapes it has, and a model from it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from avfeat.encoders import shapes
from avfeat.encoders.avhubert.model import AvHubert
from avfeat.encoders.avhubert.published import Architecture
from avfeat.encoders.folding import fold_batch_norms, fold_weight_norm
from avfeat.errors import WeightsError

PREFIXES = ("encoder.w2v_model.", "w2v_encoder.w2v_model.")
"""What stands before the encoder's names in fine-tuned files (seq2seq, CTC); pre-trained files have nothing there."""

NOT_THE_ENCODER = ("decoder.", "w2v_encoder.proj.")
"""Names beside the encoder in fine-tuned files: the lip reader's own layers."""

NOT_NEEDED = ("mask_emb", "label_embs_concat", "final_proj.", "target_glu.")
"""Names inside the encoder that only training uses. ``mask_emb`` is fresh noise in fine-tuned files."""

_POSITION = "encoder.pos_conv.0"
_VIDEO = "feature_extractor_video"
_LAYER = re.compile(r"encoder\.layers\.(\d+)\.")


def encoder_tensors(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return the encoder's tensors under their bare official names, floats as float32.

    The prefix is taken off at the start of a name only: bare names contain ``encoder.`` too.

    Raises:
        WeightsError: a name is neither the encoder's nor on the written lists of what to leave out.
    """
    prefix = next((each for each in PREFIXES if any(key.startswith(each) for key in state)), "")
    strange = [key for key in state if not key.startswith(prefix) and not key.startswith(NOT_THE_ENCODER)]
    if strange:
        raise WeightsError(f"{source}: {shapes.some(strange)} beside {prefix}* should not be in an AV-HuBERT file.")
    bare = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    return {
        key: tensor.float() if tensor.is_floating_point() else tensor
        for key, tensor in bare.items()
        if not key.startswith(NOT_NEEDED) and not key.endswith(shapes.TRACKED)
    }


def architecture_of(tensors: Mapping[str, Tensor], heads: int, norm_first: bool, source: str) -> Architecture:
    """Return the architecture that the tensors show; heads and the norms' place come from elsewhere.

    Raises:
        WeightsError: a tensor that is needed for it is missing; names it.
    """

    def shape(key: str, axes: int) -> tuple[int, ...]:
        if key not in tensors or tensors[key].ndim != axes:
            raise WeightsError(
                f"{source}: the tensor {key} with {axes} axes is missing, so this is no AV-HuBERT encoder."
            )
        return tuple(tensors[key].shape)

    (width,) = shape("encoder.layer_norm.weight", 1)
    _, group_width, kernel = shape(f"{_POSITION}.weight_v", 3)
    numbers = [int(match[1]) for key in tensors if (match := _LAYER.match(key))]
    if min(group_width, heads) < 1 or width % group_width or width % heads:
        raise WeightsError(f"{source}: a width of {width} fits neither {heads} heads nor groups of {group_width}.")
    return Architecture(
        width=width,
        layers=max(numbers, default=-1) + 1,
        ffn=shape("encoder.layers.0.fc1.weight", 2)[0],
        heads=heads,
        norm_first=norm_first,
        resnet_width=shape(f"{_VIDEO}.resnet.frontend3D.0.weight", 5)[0],
        audio_width=shape("feature_extractor_audio.proj.weight", 2)[1],
        conv_kernel=kernel,
        conv_groups=width // group_width,
    )


def official_shapes(architecture: Architecture) -> shapes.Shapes:
    """Return the bare official name and shape of every tensor that the encoder needs, in the files' order."""
    width, ffn = architecture.width, architecture.ffn
    found: shapes.Shapes = dict(shapes.linear("feature_extractor_audio.proj", width, architecture.audio_width))
    found |= shapes.lip_resnet(f"{_VIDEO}.resnet", architecture.resnet_width, slopes=True)
    found |= shapes.linear(f"{_VIDEO}.proj", width, 8 * architecture.resnet_width)
    found |= shapes.linear("post_extract_proj", width, 2 * width)
    kernel = architecture.conv_kernel
    found |= {
        f"{_POSITION}.bias": (width,),
        f"{_POSITION}.weight_g": (1, 1, kernel),
        f"{_POSITION}.weight_v": (width, width // architecture.conv_groups, kernel),
    }
    for number in range(architecture.layers):
        name = f"encoder.layers.{number}"
        for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
            found |= shapes.linear(f"{name}.self_attn.{projection}", width, width)
        found |= shapes.norm(f"{name}.self_attn_layer_norm", width)
        found |= shapes.linear(f"{name}.fc1", ffn, width)
        found |= shapes.linear(f"{name}.fc2", width, ffn)
        found |= shapes.norm(f"{name}.final_layer_norm", width)
    found |= shapes.norm("encoder.layer_norm", width)
    found |= shapes.norm("layer_norm", 2 * width)
    return found


def check_tensors(tensors: Mapping[str, Tensor], architecture: Architecture, source: str) -> None:
    """See that every tensor that the encoder needs is there, and no other.

    Raises:
        WeightsError: a tensor is missing, unknown or of another shape; names it.
    """
    shapes.check_tensors(tensors, official_shapes(architecture), source)


def model_of(tensors: Mapping[str, Tensor], architecture: Architecture) -> AvHubert:
    """Return the frozen network in evaluation mode, its norms folded; ``tensors`` have been checked."""
    folded = fold_batch_norms(tensors)
    folded["encoder.pos_conv.bias"] = folded.pop(f"{_POSITION}.bias")
    gain, direction = folded.pop(f"{_POSITION}.weight_g"), folded.pop(f"{_POSITION}.weight_v")
    folded["encoder.pos_conv.weight"] = fold_weight_norm(gain, direction)
    with torch.device("meta"):
        model = AvHubert(architecture)
    model.load_state_dict({key: shapes.own(tensor) for key, tensor in folded.items()}, assign=True)
    return model.requires_grad_(False).eval()
