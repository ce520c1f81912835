"""The published AV-HuBERT encoders: their sizes, files, licence and cards. Plain data: torch is not needed here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from avfeat.encoders.base import TRIMMED, Card, Output, WeightFile
from avfeat.errors import WeightsError
from avfeat.timeline import RATE_HZ
from avfeat.views import MOUTH, SOUND, View
from avfeat.weights import cache_dir


@dataclass(frozen=True)
class Architecture:
    """All numbers that fix the network's shape; ``heads`` and ``norm_first`` cannot be seen in the tensors."""

    width: int
    layers: int
    ffn: int
    heads: int
    norm_first: bool = True
    resnet_width: int = 64
    audio_width: int = 104
    conv_kernel: int = 128
    conv_groups: int = 16


BASE = Architecture(width=768, layers=12, ffn=3072, heads=12)
LARGE = Architecture(width=1024, layers=24, ffn=4096, heads=16)


@dataclass(frozen=True)
class Published:
    """One published file, under the name that its features bear."""

    name: str
    architecture: Architecture
    file: WeightFile
    summary: str
    self_supervised: bool

    @property
    def official(self) -> Path:
        """Where the official file is kept, whether it is there or not."""
        return cache_dir() / "avhubert" / self.file.name

    @property
    def converted(self) -> Path:
        """Where its tensors are kept as safetensors, whether they are there or not."""
        return self.official.with_suffix(".safetensors")

    @property
    def how_to_get(self) -> str:
        """What to do when neither is there, for a message."""
        return (
            f"its weights {self.file.name} (about {self.file.size_bytes / 1e9:.1f} GB) are not here: fetch them with "
            f"avfeat weights get {self.name}, or put the file from {self.file.address} at {self.official}, "
            "or give a file with --weights"
        )


_SERVER = "https://dl.fbaipublicfiles.com/avhubert/model/lrs3_vox"

PUBLISHED = {
    each.name: each
    for each in (
        Published(
            "avhubert-base",
            BASE,
            WeightFile(
                "base_vox_iter5.pt",
                f"{_SERVER}/clean-pretrain/base_vox_iter5.pt",
                "dee8b0651dbea3a21cda0f2c52b956e3a878d5f6ee503d427d6a4044bb95c9cc",
                1_240_000_000,
            ),
            "self-supervised on LRS3 and VoxCeleb2, Base",
            True,
        ),
        Published(
            "avhubert-large",
            LARGE,
            WeightFile("self_large_vox_433h.pt", f"{_SERVER}/vsr/self_large_vox_433h.pt", "", 5_700_000_000),
            "Large, pre-trained, then fine-tuned to read lips: the file that the deepfake papers use",
            False,
        ),
        Published(
            "avhubert-large-iter5",
            LARGE,
            WeightFile("large_vox_iter5.pt", f"{_SERVER}/clean-pretrain/large_vox_iter5.pt", "", 3_900_000_000),
            "self-supervised on LRS3 and VoxCeleb2, Large",
            True,
        ),
    )
}

LICENCE = "AV-HuBERT licence (Meta): non-commercial research only"
LICENCE_NOTE = (
    "Meta's AV-HuBERT licence allows non-commercial research only. It forbids use for surveillance and for biometric "
    "processing, and it covers data produced with the software: these features, and what is made from them, stay under "
    "the same terms. Read it before use: https://github.com/facebookresearch/av_hubert/blob/main/LICENSE"
)
CITATION = (
    "Shi, Hsu, Lakhotia, Mohamed: Learning Audio-Visual Speech Representation by Masked Multimodal Cluster Prediction, "
    "ICLR 2022"
)

_GFLOP = {BASE.width: 20.6, LARGE.width: 32.1}
"""Of stream ``av`` for a second of a ten second clip, two operations for each multiplication, counted by torch."""


def card(name: str, mouth: View = MOUTH, common_length: bool = False) -> Card:
    """Return the card of an encoder that reads the lips so; with ``common_length`` each stream has to know both."""
    published, trimmed = PUBLISHED[name.removesuffix(TRIMMED)], name.endswith(TRIMMED)
    width = published.architecture.width
    summary = f"lips and sound, {published.summary}"
    both = (SOUND, mouth)
    return Card(
        name=name,
        summary=f"{summary}; leading silence is left out" if trimmed else summary,
        outputs={
            "a": Output(both if common_length else (SOUND,), width),
            "v": Output(both if common_length or trimmed else (mouth,), width),
            "av": Output(both, width),
        },
        rate_hz=RATE_HZ,
        first_seconds=0.5 / RATE_HZ,
        layers=published.architecture.layers,
        licence=LICENCE,
        licence_note=LICENCE_NOTE,
        source="https://github.com/facebookresearch/av_hubert",
        citation=CITATION,
        weights=(published.file,),
        self_supervised=published.self_supervised,
        gflop_per_second=_GFLOP.get(width),
    )


CARDS = {name: card(name) for each in PUBLISHED for name in (each, each + TRIMMED)}


def find(encoder: str, file_name: str) -> Published | None:
    """Return the published file that the user names as an encoder, or else by the file's name; None for neither.

    Raises:
        WeightsError: there is no AV-HuBERT encoder of that name.
    """
    if not encoder:
        return next((each for each in PUBLISHED.values() if each.file.name == file_name), None)
    if encoder.removesuffix(TRIMMED) not in PUBLISHED:
        raise WeightsError(f"{encoder} is no AV-HuBERT encoder; there are: {', '.join(PUBLISHED)}.")
    return PUBLISHED[encoder.removesuffix(TRIMMED)]
