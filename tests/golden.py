"""Where the golden tensors are: in this repository, and in every further folder below the one AVFEAT_GOLDEN names."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avfeat.encoders.avhubert.published import Architecture

HERE = Path(__file__).resolve().parent / "data" / "golden"


def more_folders(marker: str) -> list[Path]:
    """Return the folders at or below AVFEAT_GOLDEN that hold a file called ``marker``."""
    more = os.environ.get("AVFEAT_GOLDEN")
    return sorted(path.parent for path in Path(more).rglob(marker)) if more else []


def golden_architecture(facts: Mapping[str, Any]) -> Architecture:
    """Return the architecture that a case of AV-HuBERT's ``model_cases.json`` describes."""
    return Architecture(
        width=facts["encoder_embed_dim"],
        layers=facts["encoder_layers"],
        ffn=facts["encoder_ffn_embed_dim"],
        heads=facts["encoder_attention_heads"],
        norm_first=facts["layer_norm_first"],
        resnet_width=facts["resnet_base_width"],
        audio_width=facts["audio_feat_dim"],
        conv_kernel=facts["conv_pos"],
        conv_groups=facts["conv_pos_groups"],
    )
