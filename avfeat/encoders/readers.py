"""What Auto-AVSR and BRAVEn, which read lips and sound alike, share before any tensor is read. Plain data, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from avfeat.encoders.base import WeightFile
from avfeat.encoders.settings import Setting
from avfeat.views import MOUTH_COLOUR, MOUTH_STEADY, View
from avfeat.weights import cache_dir

Modality = Literal["audio", "video"]

CROP = Setting(
    "avhubert",
    ("avhubert", "auto-avsr"),
    "how the mouth is cut: as for AV-HuBERT, which the deepfake papers do, or as these networks were trained",
)
MOUTHS: Mapping[str, View] = {"avhubert": MOUTH_COLOUR, "auto-avsr": MOUTH_STEADY}
"""The view for each choice of ``CROP``."""


@dataclass(frozen=True)
class Sizes:
    """All numbers that fix the shape of one modality's network; ``kernel`` is 0 where blocks have no convolution."""

    width: int
    layers: int
    ffn: int
    heads: int
    kernel: int = 0
    resnet_width: int = 64


def published_folder(family: str) -> Path:
    """Return where the published files of an encoder are kept, whether they are there or not."""
    return cache_dir() / family


def published_path(family: str, file: WeightFile) -> Path:
    """Return where a published file is kept, whether it is there or not."""
    return published_folder(family) / file.name


def how_to_get(family: str, files: Mapping[str, WeightFile]) -> str:
    """Return what to do for those of ``files``, by stream, that are not here; ``""`` when all are."""
    absent = [(stream, file) for stream, file in files.items() if not published_path(family, file).is_file()]
    if not absent:
        return ""
    streams = "; ".join(f".{stream}: {file.name} from {file.address}" for stream, file in absent)
    folder = published_folder(family)
    return f"weights are not here ({streams}): put them into {folder}, or give a file or folder with --weights"
