"""Weights of Auto-AVSR for the streams asked for: published files, a user's own, or from a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from avfeat.encoders.auto_avsr.model import AudioVisual
from avfeat.encoders.auto_avsr.published import FILES, FUSION_WIDTH, NAME, SIZES
from avfeat.encoders.auto_avsr.state import Parts, audio_visual_of, branch_of, branch_shapes, fusion_shapes, parts_of
from avfeat.encoders.official import check_sizes, choose_files, fresh_tensors, read_state
from avfeat.encoders.readers import Modality
from avfeat.errors import WeightsError
from avfeat.weights import recorded_sha256

_READS: dict[str, tuple[Modality, ...]] = {"a": ("audio",), "v": ("video",), "av": ("audio", "video")}


def networks(
    streams: Sequence[str], given: Path | None, seed: int | None
) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """Return the networks of the streams in evaluation mode, and where their weights come from, plain data.

    Args:
        streams: of ``a``, ``v`` and ``av``.
        given: a user's file or folder. One audio-visual file gives all three streams, ``a`` and ``v`` then from its
            two branches. In a folder each stream is given by the one file that reads just what the stream does.
        seed: random weights instead.

    Raises:
        WeightsError: there is no file for a stream, or not the right one.
    """
    if seed is not None:
        drawn = {stream: _network(_random_parts(stream, seed), stream) for stream in streams}
        return drawn, {"weights": "random", "seed": seed}
    reads = {stream: _READS[stream] for stream in streams}
    paths = choose_files(NAME, reads, FILES, given, lambda path: parts_of(read_state(path), str(path)).branches)
    found: dict[str, nn.Module] = {}
    origin: dict[str, Any] = {}
    for path in dict.fromkeys(paths.values()):
        parts = parts_of(read_state(path), str(path))
        whole = audio_visual_of(parts) if "av" in [stream for stream in streams if paths[stream] == path] else None
        for stream in (stream for stream in streams if paths[stream] == path):
            _check(parts, stream, path)
            found[stream] = _network(parts, stream, whole)
            origin[stream] = {"file": path.name, "sha256": recorded_sha256(path), "layout": parts.layout}
    return found, {"weights": origin}


def _check(parts: Parts, stream: str, path: Path) -> None:
    if not set(_READS[stream]) <= set(parts.branches):
        there, wanted = (" and ".join(sorted(each)) for each in (parts.branches, _READS[stream]))
        raise WeightsError(f"{path} holds a network that reads {there}; {NAME}.{stream} reads {wanted}.")
    for modality in _READS[stream]:
        check_sizes(parts.sizes[modality], SIZES, str(path), f"{NAME}.{stream}")


def _network(parts: Parts, stream: str, whole: AudioVisual | None = None) -> nn.Module:
    if stream == "av":
        return whole or audio_visual_of(parts)
    if whole is not None:
        return whole.aux_encoder if stream == "a" else whole.encoder
    return branch_of(parts, _READS[stream][0])


def _random_parts(stream: str, seed: int) -> Parts:
    branches: Mapping[Modality, Any] = {
        modality: fresh_tensors(branch_shapes(modality, SIZES), seed, f"{stream}.{modality}")
        for modality in _READS[stream]
    }
    fusion = fresh_tensors(fusion_shapes(SIZES, SIZES, FUSION_WIDTH), seed, "fusion") if stream == "av" else {}
    return Parts("v1", branches, dict.fromkeys(branches, SIZES), fusion)
