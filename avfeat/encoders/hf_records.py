"""What is known of the architectures that transformers can load for us. Plain data; transformers is not imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

IMAGENET = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}
OPENAI = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}
HALF = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}

Kind = Literal["speech", "mel", "picture", "video"]
"""Which of our files runs a network: ``hf_speech``, ``hf_whisper``, ``hf_vision``, ``hf_video``."""


@dataclass(frozen=True)
class Family:
    """One architecture of transformers.

    model, config: its classes; ``config`` is the picture tower's own where the checkpoint holds more.
    blocks, norm: ends of the names of its list of blocks and of its last norm.
    part: the part that runs, where the class holds more.
    unbuilt: settings under which what does not run is left out.
    surplus: what a checkpoint may hold beyond the encoder, as a pattern that whole keys must match.
    size: the setting that says how large pictures must be; empty: it takes other sizes too.
    frames: the setting that says how many pictures make a window.
    class_token: whether the first token stands for the picture; else the mean of all does in inner layers.
    input: how it wants its input unless the checkpoint says otherwise; None: the checkpoint must say.
    limit_seconds: longest sound that is encoded in one piece.
    self_supervised: whether such networks are trained without labels or transcripts.
    """

    kind: Kind
    model: str
    config: str
    blocks: str = "encoder.layers"
    norm: str = "encoder.layer_norm"
    part: str = ""
    unbuilt: Mapping[str, int] = field(default_factory=dict)
    surplus: str = ""
    size: str = "image_size"
    frames: str = ""
    class_token: bool = True
    input: Mapping[str, Any] | None = None
    limit_seconds: float = 300.0
    self_supervised: bool = True

    @property
    def hears(self) -> bool:
        """Whether it reads sound."""
        return self.kind in ("speech", "mel")


_SPEECH_SURPLUS = (
    r"(quantizer|project_q|project_hid|lm_head|projector|classifier|objective|tdnn\.\d+\.kernel)\..+"
    r"|feature_extractor\.(weight|bias)|layer_weights"
)
_TEXT_SURPLUS = r"text_model\..+|(text|visual)_projection\.weight|logit_(scale|bias)"
_CLIP_FAMILY = Family(
    "picture",
    "CLIPVisionModel",
    "CLIPVisionConfig",
    norm="post_layernorm",
    surplus=_TEXT_SURPLUS + r"|classifier\..+",
    input={"size": 224, "resample": 3} | OPENAI,
)
_SIGLIP_FAMILY = Family(
    "picture",
    "SiglipVisionModel",
    "SiglipVisionConfig",
    norm="post_layernorm",
    surplus=_TEXT_SURPLUS + r"|classifier\..+",
    class_token=False,
    input={"size": 224, "resample": 3} | HALF,
)
_DINOV2_FAMILY = Family(
    "picture",
    "Dinov2Model",
    "Dinov2Config",
    blocks="encoder.layer",
    norm="layernorm",
    surplus=r"classifier\..+",
    size="",
    input={"size": 224, "resample": 3} | IMAGENET,
)

FAMILIES = {
    "wav2vec2": Family("speech", "Wav2Vec2Model", "Wav2Vec2Config", surplus=_SPEECH_SURPLUS),
    "hubert": Family("speech", "HubertModel", "HubertConfig", surplus=_SPEECH_SURPLUS),
    # WavLM's attention keeps a steps x steps table for each head, several times over: 60 s need 0.13 GB a head.
    "wavlm": Family("speech", "WavLMModel", "WavLMConfig", surplus=_SPEECH_SURPLUS, limit_seconds=60.0),
    "clip": _CLIP_FAMILY,
    "clip_vision_model": _CLIP_FAMILY,
    "siglip": _SIGLIP_FAMILY,
    "siglip_vision_model": _SIGLIP_FAMILY,
    "dinov2": _DINOV2_FAMILY,
    "dinov2_with_registers": replace(
        _DINOV2_FAMILY, model="Dinov2WithRegistersModel", config="Dinov2WithRegistersConfig"
    ),
    "whisper": Family(
        "mel",
        "WhisperModel",
        "WhisperConfig",
        part="encoder",
        unbuilt={"decoder_layers": 0},
        surplus=r"(model\.)?decoder\.layers\..+|proj_out\.weight",
        input={"do_normalize": False},
        self_supervised=False,
    ),
    "videomae": Family(
        "video",
        "VideoMAEModel",
        "VideoMAEConfig",
        blocks="encoder.layer",
        norm="layernorm",
        surplus=r"decoder\..+|encoder_to_decoder\.weight|mask_token",
        frames="num_frames",
        input={"resample": 2} | IMAGENET,
    ),
    "vjepa2": Family(
        "video",
        "VJEPA2Model",
        "VJEPA2Config",
        blocks="encoder.layer",
        norm="encoder.layernorm",
        part="encoder",
        unbuilt={"pred_num_hidden_layers": 0},
        surplus=r"(vjepa2\.)?predictor\.layer\..+|(pooler|classifier)\..+",
        size="crop_size",
        frames="frames_per_clip",
        input={"resample": 2} | IMAGENET,
    ),
}
"""``model_type`` of a checkpoint's config.json to what is known of it."""
