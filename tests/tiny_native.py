"""Tiny networks of the encoders that are built here, with seeded weights: for tests of what every encoder promises."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from avfeat.encoders.auto_avsr.encoder import AutoAvsrEncoder
from avfeat.encoders.auto_avsr.published import CARDS as AUTO_AVSR
from avfeat.encoders.auto_avsr.state import Parts, audio_visual_of, fusion_shapes
from avfeat.encoders.auto_avsr.state import branch_shapes as auto_avsr_shapes
from avfeat.encoders.avhubert.encoder import AvHubertEncoder
from avfeat.encoders.avhubert.initial import random_tensors as avhubert_tensors
from avfeat.encoders.avhubert.published import CARDS as AVHUBERT
from avfeat.encoders.avhubert.published import Architecture
from avfeat.encoders.avhubert.state import model_of
from avfeat.encoders.base import Card, Encoder, FeatureName, Output
from avfeat.encoders.branches import BranchEncoder
from avfeat.encoders.braven.loading import branch_shapes as braven_shapes
from avfeat.encoders.braven.loading import network_of as braven_of
from avfeat.encoders.braven.published import CARDS as BRAVEN
from avfeat.encoders.fsfm import CARDS as FSFM
from avfeat.encoders.fsfm import Sizes as FsfmSizes
from avfeat.encoders.fsfm_encoder import DEVIATION, MEAN, FsfmEncoder, Weights
from avfeat.encoders.fsfm_model import fresh_tensors as fsfm_tensors
from avfeat.encoders.official import fresh_tensors
from avfeat.encoders.readers import Sizes
from avfeat.views import View

WIDTH = 32
_SIZES = Sizes(WIDTH, layers=2, ffn=48, heads=4, kernel=7, resnet_width=8)


def _card(card: Card, layers: int, view: View | None = None) -> Card:
    outputs = {stream: Output((view,) if view else each.reads, WIDTH) for stream, each in card.outputs.items()}
    return replace(card, outputs=outputs, layers=layers)


def _wanted(*names: str) -> tuple[FeatureName, ...]:
    return tuple(FeatureName.parse(name) for name in names)


def tiny_auto_avsr(seed: int) -> Encoder:
    """Sound, lips and both, from one audio-visual network."""
    branches: Any = {
        modality: fresh_tensors(auto_avsr_shapes(modality, _SIZES), seed, modality) for modality in ("audio", "video")
    }
    fusion = fresh_tensors(fusion_shapes(_SIZES, _SIZES, 80), seed, "fusion")
    network = audio_visual_of(Parts("v1", branches, dict.fromkeys(branches, _SIZES), fusion))
    return AutoAvsrEncoder(
        _card(AUTO_AVSR["auto-avsr"], 2),
        _wanted("auto-avsr-random.a", "auto-avsr-random.v", "auto-avsr-random.av", "auto-avsr-random.v@1"),
        {"a": network.aux_encoder, "v": network.encoder, "av": network},
        {"short_stream": "error"},
        {"weights": "random", "seed": seed},
    )


def tiny_braven(seed: int) -> Encoder:
    """Sound and lips."""
    sizes = replace(_SIZES, kernel=0)
    audio, video = (
        braven_of(fresh_tensors(braven_shapes(modality, sizes), seed, modality), "tiny")
        for modality in ("audio", "video")
    )
    return BranchEncoder(
        _card(BRAVEN["braven-large"], 2),
        _wanted("braven-large-random.a", "braven-large-random.v", "braven-large-random.a@1"),
        {"a": audio, "v": video},
        {"weights": "random", "seed": seed},
    )


def tiny_avhubert(seed: int) -> Encoder:
    """Sound, lips and both, one network for all."""
    sizes = Architecture(
        width=WIDTH, layers=2, ffn=48, heads=_SIZES.heads, resnet_width=_SIZES.resnet_width, conv_groups=2
    )
    return AvHubertEncoder(
        _card(AVHUBERT["avhubert-base"], 2),
        _wanted(*(f"avhubert-base-random.{stream}" for stream in ("a", "v", "av", "av@1"))),
        model_of(avhubert_tensors(sizes, seed), sizes),
        {"short_stream": "error", "common_length": "false", "mouth_reencode": "false"},
        {"weights": "random", "seed": seed},
    )


def tiny_fsfm(seed: int) -> Encoder:
    """Faces of 64 pixels."""
    sizes = FsfmSizes(WIDTH, layers=2, heads=4, picture_px=64)
    weights = Weights(fsfm_tensors(sizes, seed), sizes, MEAN, DEVIATION, {"weights": "random", "seed": seed})
    wanted = _wanted("fsfm-vit-b16-random", "fsfm-vit-b16-random@1")
    settings = {"pooling": "mean", "crop": "upright", "fit": "squash"}
    card = _card(FSFM["fsfm-vit-b16"], 2, View("face", sizes.picture_px, "bicubic"))
    return FsfmEncoder(card, wanted, weights, settings)


TINY_NATIVE: dict[str, Callable[[int], Encoder]] = {
    "auto-avsr": tiny_auto_avsr,
    "avhubert-base": tiny_avhubert,
    "braven-large": tiny_braven,
    "fsfm-vit-b16": tiny_fsfm,
}
