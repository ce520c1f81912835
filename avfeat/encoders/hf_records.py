"""What is known of the networks that transformers can load for us: families by architecture, checkpoints by name.

Plain data; nothing here imports transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from avfeat.timeline import SOUND_RATE_HZ

_IMAGENET = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}
_CLIP = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}


@dataclass(frozen=True)
class Family:
    """One architecture of transformers.

    model, config: its classes; ``config`` is the picture tower's own where the checkpoint holds more.
    blocks, norm: ends of the names of its list of blocks and of its last norm.
    surplus: what a checkpoint may hold beyond the encoder, as a pattern that whole keys must match.
    fixed_size: whether it takes pictures of ``config.image_size`` only.
    class_token: whether the first token stands for the picture; else the mean of all does in inner layers.
    input: how it wants its input unless the checkpoint says otherwise; None: the checkpoint must say.
    limit_seconds: longest sound that is encoded in one piece.
    """

    kind: Literal["sound", "picture"]
    model: str
    config: str
    blocks: str = "encoder.layers"
    norm: str = "encoder.layer_norm"
    surplus: str = ""
    fixed_size: bool = True
    class_token: bool = True
    input: Mapping[str, Any] | None = None
    limit_seconds: float = 300.0


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
    input={"size": 224, "resample": 3} | _CLIP,
)
_SIGLIP_FAMILY = Family(
    "picture",
    "SiglipVisionModel",
    "SiglipVisionConfig",
    norm="post_layernorm",
    surplus=_TEXT_SURPLUS + r"|classifier\..+",
    class_token=False,
    input={"size": 224, "resample": 3, "image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)},
)
_DINOV2_FAMILY = Family(
    "picture",
    "Dinov2Model",
    "Dinov2Config",
    blocks="encoder.layer",
    norm="layernorm",
    surplus=r"classifier\..+",
    fixed_size=False,
    input={"size": 224, "resample": 3} | _IMAGENET,
)

FAMILIES = {
    "wav2vec2": Family("sound", "Wav2Vec2Model", "Wav2Vec2Config", surplus=_SPEECH_SURPLUS),
    "hubert": Family("sound", "HubertModel", "HubertConfig", surplus=_SPEECH_SURPLUS),
    # WavLM's attention keeps a steps x steps table for each head, several times over: 60 s need 0.13 GB a head.
    "wavlm": Family("sound", "WavLMModel", "WavLMConfig", surplus=_SPEECH_SURPLUS, limit_seconds=60.0),
    "clip": _CLIP_FAMILY,
    "clip_vision_model": _CLIP_FAMILY,
    "siglip": _SIGLIP_FAMILY,
    "siglip_vision_model": _SIGLIP_FAMILY,
    "dinov2": _DINOV2_FAMILY,
    "dinov2_with_registers": replace(
        _DINOV2_FAMILY, model="Dinov2WithRegistersModel", config="Dinov2WithRegistersConfig"
    ),
}
"""``model_type`` of a checkpoint's config.json to what is known of it."""


@dataclass(frozen=True)
class Record:
    """A named checkpoint of the hub: all that is needed to build its network without a download.

    config: the settings of its network that differ from the class defaults; a folder given as weights must agree.
    input: how it wants its input, in the words of preprocessor_config.json; a folder must agree here too.
    """

    family: str
    repository: str
    config: Mapping[str, Any]
    input: Mapping[str, Any]
    summary: str
    licence: str
    citation: str
    file: str
    size_bytes: int = 0
    view: Literal["", "frame", "face"] = ""
    gflop_per_second: float | None = None

    @property
    def address(self) -> str:
        """Where the checkpoint is published."""
        return f"https://huggingface.co/{self.repository}"


def _xls_r(size: str, summary: str, gflop_per_second: float, **config: int) -> Record:
    shared = {
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": True,
        "conv_bias": True,
        "num_attention_heads": 16,
        "num_conv_pos_embeddings": 128,
        "num_conv_pos_embedding_groups": 16,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
    }
    return Record(
        family="wav2vec2",
        repository=f"facebook/wav2vec2-xls-r-{size}",
        config=shared | config,
        input={"do_normalize": True, "sampling_rate": SOUND_RATE_HZ},
        summary=summary,
        licence="Apache-2.0",
        citation="Babu et al., XLS-R: Self-supervised Cross-lingual Speech Representation Learning at Scale, 2021",
        file="pytorch_model.bin",
        gflop_per_second=gflop_per_second,
    )


_CLIP_VIT_L14 = Record(
    family="clip_vision_model",
    repository="openai/clip-vit-large-patch14",
    config={
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 14,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    },
    input={"size": 224, "resample": 3} | _CLIP,
    summary="CLIP ViT-L/14 on the whole picture, squashed to a square: the normed class token of the last block",
    licence="MIT",
    citation="Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021",
    file="model.safetensors",
    view="frame",
    gflop_per_second=4050.0,
)

NAMED = {
    "xlsr-2b": _xls_r(
        "2b", "wav2vec 2.0 XLS-R 2B, two 20 ms steps joined", 229.0,
        hidden_size=1920, intermediate_size=7680, num_hidden_layers=48,
    ),
    "xlsr-300m": _xls_r(
        "300m", "wav2vec 2.0 XLS-R 300M, two 20 ms steps joined", 38.0,
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24,
    ),
    "clip-vit-l14": _CLIP_VIT_L14,
    "clip-vit-l14-face": replace(
        _CLIP_VIT_L14,
        summary="CLIP ViT-L/14 on the aligned face: the normed class token of the last block",
        view="face",
    ),
}  # fmt: skip
