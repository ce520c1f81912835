"""VideoMAE-large: windows of 16 pictures in, one vector for every frame out, through transformers.

A window's 16 pictures become 8 x 196 tokens; a vector is the mean of the 196 tokens of two pictures, so rows come in
equal pairs. Windows lie end to end; where the last would lack pictures one more window ends with the clip. A clip
shorter than a window shows its last picture until the window is full. ``@k`` is the mean of block k's own output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avfeat.encoders.base import Card, Encoder, Output, Request, WeightFile
from avfeat.encoders.hf import FINAL_NORM, FIT
from avfeat.encoders.hf_records import Family, Record
from avfeat.encoders.settings import Setting, chosen
from avfeat.timeline import RATE_HZ
from avfeat.views import View

FAMILY = Family(
    "picture",
    "VideoMAEModel",
    "VideoMAEConfig",
    blocks="encoder.layer",
    norm="layernorm",
    surplus=r"decoder\..+|encoder_to_decoder\.weight|mask_token",
)

RECORD = Record(
    family="videomae",
    repository="MCG-NJU/videomae-large",
    config={
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 16,
        "num_frames": 16,
        "tubelet_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "qv_bias": True,
        "use_mean_pooling": False,
    },
    input={"size": 224, "image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)},
    summary="VideoMAE-large, self-supervised on Kinetics-400",
    licence="CC BY-NC 4.0",
    citation="Tong et al., VideoMAE: Masked Autoencoders are Data-Efficient Learners for Video Pre-Training, 2022",
    file="model.safetensors",
    gflop_per_second=1870.0,
)

_FACE = "videomae-large-face"

_SAMPLING = Setting(
    "1",
    ("1", "4"),
    "pictures from one of a window to the next: 1, neighbours, 0.64 s in all; 4, as in training, 2.56 s",
)
SETTINGS = {
    "videomae-large": {"final_norm": FINAL_NORM, "sampling": _SAMPLING, "fit": FIT},
    _FACE: {"final_norm": FINAL_NORM, "sampling": _SAMPLING},
}


def card_of(name: str, settings: Mapping[str, Any]) -> Card:
    """Return the card of the encoder with these settings.

    Raises:
        EncoderError: no such setting.
    """
    own: Mapping[str, Any] = chosen(name, settings, SETTINGS[name])
    size = RECORD.input["size"]
    if name == _FACE:
        view = View("face", size, "bilinear", recipe="still")
    else:
        view = View("frame", size, "bilinear", own["fit"])
    where = "one square around the face of each shot" if name == _FACE else "the whole picture, squashed to a square"
    return Card(
        name=name,
        summary=f"{RECORD.summary}, on {where}: windows of 16 pictures",
        outputs={"": Output((view,), RECORD.config["hidden_size"])},
        rate_hz=RATE_HZ,
        first_seconds=0.5 / RATE_HZ,
        layers=RECORD.config["num_hidden_layers"],
        licence=RECORD.licence,
        source=RECORD.address,
        citation=RECORD.citation,
        weights=(WeightFile(RECORD.file, f"{RECORD.address}/resolve/main/{RECORD.file}"),),
        self_supervised=True,
        gflop_per_second=RECORD.gflop_per_second,
    )


CARDS = {name: card_of(name, {}) for name in SETTINGS}


def missing(name: str) -> str:
    """Return what this machine lacks to run the encoder, one sentence, or ``""``."""
    from avfeat.encoders.hf_files import cached_snapshot, how_to_place

    if cached_snapshot(RECORD.repository):
        return ""
    return (
        f"weights of {RECORD.repository} are not in the cache: they are fetched at first use, or {how_to_place(name)}"
    )


def build(request: Request) -> Encoder:
    """Return the encoder, its weights loaded.

    Raises:
        EncoderError: no such layer or setting.
        WeightsError: files missing, or not the tensors that the network needs.
        SetupError: this transformers is too old.
    """
    from avfeat.encoders.videomae_encoder import VideoMaeEncoder, inspect

    return VideoMaeEncoder(inspect(request), request)
