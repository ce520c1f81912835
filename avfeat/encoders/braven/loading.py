"""Weights of BRAVEn: the official tensors by name, a network from them, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avfeat.encoders import shapes
from avfeat.encoders.braven.model import branch
from avfeat.encoders.braven.published import FILES, NAME, SIZES
from avfeat.encoders.folding import fold_batch_norms, fold_into_next
from avfeat.encoders.official import (
    attention_shapes,
    bare,
    check_sizes,
    choose_files,
    fresh_tensors,
    modality_of,
    outer_shapes,
    read_state,
    sizes_of,
)
from avfeat.encoders.readers import Modality, Sizes
from avfeat.encoders.relative import Branch
from avfeat.encoders.shapes import Shapes
from avfeat.errors import WeightsError
from avfeat.weights import recorded_sha256

PREFIX = "encoder."
"""Stands before the encoder's names in fine-tuned files; self-supervised files have the encoder's names alone."""

READS: dict[str, Modality] = {"a": "audio", "v": "video"}


def networks(streams: Sequence[str], given: Path | None, seed: int | None) -> tuple[dict[str, Branch], dict[str, Any]]:
    """Return the networks of the streams in evaluation mode, and where their weights come from, plain data.

    Args:
        streams: of ``a`` and ``v``.
        given: a user's file, or a folder with one file for each stream.
        seed: random weights instead.

    Raises:
        WeightsError: there is no file for a stream, or not the right one.
    """
    if seed is not None:
        drawn = {
            stream: network_of(fresh_tensors(branch_shapes(READS[stream], SIZES), seed, stream), "seed")
            for stream in streams
        }
        return drawn, {"weights": "random", "seed": seed}
    reads = {stream: (READS[stream],) for stream in streams}
    found, origin = {}, {}
    for stream, path in choose_files(NAME, reads, FILES, given, lambda path: [modality_of(*_read(path))]).items():
        tensors, source = _read(path)
        if (there := modality_of(tensors, source)) != READS[stream]:
            raise WeightsError(f"{path} holds a network that reads {there}; {NAME}.{stream} reads {READS[stream]}.")
        check_sizes(sizes_of(tensors, source), SIZES, source, f"{NAME}.{stream}")
        found[stream] = network_of(tensors, source)
        origin[stream] = {"file": path.name, "sha256": recorded_sha256(path)}
    return found, {"weights": origin}


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    return encoder_tensors(read_state(path), str(path)), str(path)


def encoder_tensors(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return the encoder's tensors under their bare names, of a fine-tuned or of a self-supervised file.

    Raises:
        WeightsError: there are others beside them.
    """
    prefix = PREFIX if any(key.startswith(PREFIX) for key in state) else ""
    strange = [key for key in state if not key.startswith(prefix)]
    if strange:
        raise WeightsError(f"{source}: {shapes.some(strange)} not known to BRAVEn; it may be another network's file.")
    return bare(state, prefix)


def branch_shapes(modality: Modality, sizes: Sizes) -> Shapes:
    """Return the bare name and shape of every tensor of one modality's network."""
    width = sizes.width
    found = outer_shapes(modality, sizes)
    for number in range(sizes.layers):
        name = f"encoders.{number}"
        found |= shapes.norm(f"{name}.norm_mha", width)
        found |= attention_shapes(f"{name}.self_attn", sizes)
        found |= {f"{name}.gamma_mha": (width,), f"{name}.gamma_ff": (width,)}
        found |= shapes.batch_norm(f"{name}.norm_ff", width)
        found |= shapes.linear(f"{name}.feed_forward.w_1", sizes.ffn, width)
        found |= shapes.linear(f"{name}.feed_forward.w_2", width, sizes.ffn)
    return found


def network_of(tensors: Mapping[str, Tensor], source: str) -> Branch:
    """Return the frozen network in evaluation mode, its batch norms folded.

    Raises:
        WeightsError: a tensor is missing, unknown or of another shape; names it.
    """
    modality, sizes = modality_of(tensors, source), sizes_of(tensors, source)
    shapes.check_tensors(tensors, branch_shapes(modality, sizes), source)
    for number in range(sizes.layers):
        name = f"encoders.{number}"
        tensors = fold_into_next(tensors, f"{name}.norm_ff", f"{name}.feed_forward.w_1")
    folded = fold_batch_norms(tensors)
    with torch.device("meta"):
        network = branch(modality, sizes)
    network.load_state_dict({key: shapes.own(tensor) for key, tensor in folded.items()}, assign=True)
    return network.requires_grad_(False).eval()
