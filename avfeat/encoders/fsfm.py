"""FSFM: the face in, one vector for every frame out, by a ViT-B/16 that was trained on faces without labels.

The setting ``pooling`` says which vector. ``mean`` is the mean of the 196 patch tokens after the last block, normalised
to mean 0 and variance 1: what the authors' own frozen experiments read. ``class`` is the class token after the
checkpoint's last norm. ``@k`` is the same mean after block k; for ``class`` the raw class token of block k.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avfeat import weights
from avfeat.encoders.base import Card, Encoder, Output, Request, WeightFile
from avfeat.encoders.settings import Setting, chosen
from avfeat.timeline import RATE_HZ
from avfeat.views import FACE, FACE_PLAIN, View
from avfeat.weights import cache_dir

NAME = "fsfm-vit-b16"


@dataclass(frozen=True)
class Sizes:
    """All numbers that fix the network's shape; ``heads`` cannot be seen in the tensors."""

    width: int
    layers: int
    heads: int
    picture_px: int = 224
    patch_px: int = 16

    @property
    def patches(self) -> int:
        """Patches of one picture."""
        return (self.picture_px // self.patch_px) ** 2


SIZES = Sizes(width=768, layers=12, heads=12)

_PLACE = "fsfm/VF2_ViT-B"
_HUB = "https://huggingface.co/Wolowolo/fsfm-3c/resolve/main/pretrained_models/VF2_ViT-B"
FILE = WeightFile("checkpoint-400.pth", f"{_HUB}/checkpoint-400.pth", "", 1_600_000_000)
STATISTICS = WeightFile("pretrain_ds_mean_std.txt", f"{_HUB}/pretrain_ds_mean_std.txt")
"""Mean and deviation of the pictures that the network was trained on; looked for beside the checkpoint."""

SETTINGS = {
    NAME: {
        "pooling": Setting(
            "mean", ("mean", "class"), "the vector of a picture: mean of its patches, normalised, or its class token"
        ),
        "crop": Setting(
            "upright",
            ("upright", "plain"),
            "the face: turned upright and steadied, or as the authors cut it, neither",
        ),
        "fit": Setting(
            "squash",
            ("squash", "resize256-centre224"),
            "the whole square, as in training, or the middle 87.5 % of it, as the authors' evaluation has it",
        ),
    }
}


def view(crop: str, fit: str) -> View:
    """Return the view that an encoder with these settings reads."""
    return replace(FACE_PLAIN if crop == "plain" else FACE, size_px=224 if fit == "squash" else 256)


def card(face: View = FACE) -> Card:
    """Return the card of the encoder that reads the face so."""
    return Card(
        name=NAME,
        summary="face ViT-B/16, self-supervised on VGGFace2",
        outputs={"": Output((face,), SIZES.width)},
        rate_hz=RATE_HZ,
        first_seconds=0.5 / RATE_HZ,
        layers=SIZES.layers,
        licence="CC BY-NC 4.0, code and weights",
        licence_note="Non-commercial use only.",
        source="https://github.com/wolo-wolo/FSFM-CVPR25",
        citation=(
            "Wang, Lin, Yang, Zhang, Zhang: FSFM: A Generalizable Face Security Foundation Model via Self-Supervised "
            "Facial Representation Learning, CVPR 2025"
        ),
        weights=(FILE, STATISTICS),
        self_supervised=True,
        gflop_per_second=880.0,
    )


CARDS = {NAME: card()}


def card_of(name: str, settings: Mapping[str, Any]) -> Card:
    """Return the card of the encoder with these settings.

    Raises:
        EncoderError: no such setting.
    """
    own = chosen(name, settings, SETTINGS[name])
    return card(view(str(own["crop"]), str(own["fit"])))


def where(name: str) -> Path:
    """Return where the official file is kept, whether it is there or not."""
    return cache_dir() / _PLACE / FILE.name


def fetch(name: str) -> Path:
    """Return the official file on this machine, fetched first where need be, its statistics beside it.

    Raises:
        WeightsError: they cannot be fetched; says which file to put where.
    """
    for file in (STATISTICS, FILE):
        path = weights.fetch(f"{_PLACE}/{file.name}", [file.address], file.sha256)
    return path


def missing(name: str) -> str:
    """Return what this machine lacks to run the encoder, one sentence, or ``""``."""
    path = where(name)
    if path.is_file():
        return ""
    return (
        f"its weights {FILE.name} ({FILE.size_bytes / 1e9:.1f} GB) are not here: fetch them with avfeat "
        f"weights get {name}, or put {FILE.address} and {STATISTICS.name} beside it into {path.parent}, or give the "
        "file with --weights"
    )


def build(request: Request) -> Encoder:
    """Return the encoder, its weights loaded.

    Raises:
        EncoderError: no such layer or setting.
        WeightsError: the weights are not here, or not what they should be.
    """
    from avfeat.encoders.fsfm_encoder import FsfmEncoder, find_weights

    settings = {key: str(value) for key, value in chosen(NAME, request.settings, SETTINGS[NAME]).items()}
    face = view(settings["crop"], settings["fit"])
    found = find_weights(request.weights, request.seed)
    return FsfmEncoder(card(face), request.wanted, found, settings, request.device)
