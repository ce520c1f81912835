"""Checkpoints that have a name of their own: all that is needed to build their networks without a download.

Plain data; nothing here imports transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from avfeat.encoders.hf_records import HALF, IMAGENET, OPENAI
from avfeat.timeline import SOUND_RATE_HZ


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
    file: str = "model.safetensors"
    view: Literal["", "frame", "face"] = ""
    gflop_per_second: float | None = None

    @property
    def address(self) -> str:
        """Where the checkpoint is published."""
        return f"https://huggingface.co/{self.repository}"


_SPEECH_LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
}
_VIT_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
_SPEECH_INPUT = {"do_normalize": True, "sampling_rate": SOUND_RATE_HZ}

_XLS_R = Record(
    family="wav2vec2",
    repository="facebook/wav2vec2-xls-r-300m",
    config=_SPEECH_LARGE,
    input=_SPEECH_INPUT,
    summary="wav2vec 2.0 XLS-R 300M, two 20 ms steps joined",
    licence="Apache-2.0",
    citation="Babu et al., XLS-R: Self-supervised Cross-lingual Speech Representation Learning at Scale, 2021",
    file="pytorch_model.bin",
    gflop_per_second=38.0,
)

_CLIP_VIT_L14 = Record(
    family="clip_vision_model",
    repository="openai/clip-vit-large-patch14",
    config=_VIT_LARGE
    | {
        "intermediate_size": 4096,
        "image_size": 224,
        "patch_size": 14,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    },
    input={"size": 224, "resample": 3} | OPENAI,
    summary="CLIP ViT-L/14 on the whole picture, squashed to a square: the normed class token of the last block",
    licence="MIT",
    citation="Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021",
    view="frame",
    gflop_per_second=4050.0,
)

_VIDEOMAE_LARGE = Record(
    family="videomae",
    repository="MCG-NJU/videomae-large",
    config=_VIT_LARGE
    | {
        "intermediate_size": 4096,
        "image_size": 224,
        "patch_size": 16,
        "num_frames": 16,
        "tubelet_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "qv_bias": True,
        "use_mean_pooling": False,
    },
    input={"size": 224, "resample": 2} | IMAGENET,
    summary=(
        "VideoMAE-large, self-supervised on Kinetics-400, on the whole picture, squashed to a square: windows of 16 "
        "pictures"
    ),
    licence="CC BY-NC 4.0",
    citation="Tong et al., VideoMAE: Masked Autoencoders are Data-Efficient Learners for Video Pre-Training, 2022",
    view="frame",
    gflop_per_second=1870.0,
)

NAMED = {
    "xlsr-2b": replace(
        _XLS_R,
        repository="facebook/wav2vec2-xls-r-2b",
        config=_SPEECH_LARGE | {"hidden_size": 1920, "intermediate_size": 7680, "num_hidden_layers": 48},
        summary="wav2vec 2.0 XLS-R 2B, two 20 ms steps joined",
        gflop_per_second=229.0,
    ),
    "xlsr-300m": _XLS_R,
    "hubert-large": Record(
        family="hubert",
        repository="facebook/hubert-large-ll60k",
        config=_SPEECH_LARGE,
        input=_SPEECH_INPUT,
        summary="HuBERT Large, two 20 ms steps joined",
        licence="Apache-2.0",
        citation="Hsu et al., HuBERT: Self-Supervised Speech Representation Learning by Masked Prediction, 2021",
        file="pytorch_model.bin",
        gflop_per_second=38.0,
    ),
    "wavlm-large": Record(
        family="wavlm",
        repository="microsoft/wavlm-large",
        config=_SPEECH_LARGE | {"conv_bias": False},
        input=_SPEECH_INPUT,
        summary="WavLM Large, two 20 ms steps joined",
        licence="CC BY-SA 3.0, as its authors' repository says",
        citation="Chen et al., WavLM: Large-Scale Self-Supervised Pre-Training for Full Stack Speech Processing, 2022",
        file="pytorch_model.bin",
        gflop_per_second=38.0,
    ),
    "whisper-large-v3": Record(
        family="whisper",
        repository="openai/whisper-large-v3",
        config={
            "hidden_size": 1280,
            "num_hidden_layers": 32,
            "num_attention_heads": 20,
            "encoder_ffn_dim": 5120,
            "num_mel_bins": 128,
            "max_source_positions": 1500,
            "vocab_size": 51866,
        },
        input={"do_normalize": False},
        summary="the encoder of Whisper large-v3, trained to transcribe; two 20 ms steps joined",
        licence="Apache-2.0",
        citation="Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision, 2022",
        gflop_per_second=76.0,
    ),
    "clip-vit-l14": _CLIP_VIT_L14,
    "clip-vit-l14-face": replace(
        _CLIP_VIT_L14,
        summary="CLIP ViT-L/14 on the aligned face: the normed class token of the last block",
        view="face",
    ),
    "dinov2-large": Record(
        family="dinov2",
        repository="facebook/dinov2-large",
        config=_VIT_LARGE
        | {"mlp_ratio": 4, "image_size": 518, "patch_size": 14, "layer_norm_eps": 1e-6, "use_swiglu_ffn": False},
        input={"size": 224, "resample": 3} | IMAGENET,
        summary="DINOv2 ViT-L/14 on the whole picture, squashed to a square: the normed class token of the last block",
        licence="Apache-2.0",
        citation="Oquab et al., DINOv2: Learning Robust Visual Features without Supervision, 2023",
        view="frame",
        gflop_per_second=4050.0,
    ),
    "siglip2-large": Record(
        family="siglip_vision_model",
        repository="google/siglip2-large-patch16-256",
        config=_VIT_LARGE
        | {
            "intermediate_size": 4096,
            "image_size": 256,
            "patch_size": 16,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
        },
        input={"size": 256, "resample": 2} | HALF,
        summary="SigLIP 2 ViT-L/16 on the whole picture, squashed to a square: its trained pooling over all patches",
        licence="Apache-2.0",
        citation="Tschannen et al., SigLIP 2: Multilingual Vision-Language Encoders, 2025",
        view="frame",
        gflop_per_second=4064.0,
    ),
    "videomae-large": _VIDEOMAE_LARGE,
    "videomae-large-face": replace(
        _VIDEOMAE_LARGE,
        summary=(
            "VideoMAE-large, self-supervised on Kinetics-400, on one square around the face of each shot: windows of "
            "16 pictures"
        ),
        view="face",
    ),
    "vjepa2-vitl": Record(
        family="vjepa2",
        repository="facebook/vjepa2-vitl-fpc64-256",
        config=_VIT_LARGE
        | {"mlp_ratio": 4, "crop_size": 256, "patch_size": 16, "frames_per_clip": 64, "tubelet_size": 2},
        input={"size": 256, "resample": 2} | IMAGENET,
        summary="V-JEPA 2 ViT-L/16 on the whole picture, squashed to a square: windows of 64 pictures",
        licence="MIT",
        citation="Assran et al., V-JEPA 2: Self-Supervised Video Models Enable Understanding and Planning, 2025",
        view="frame",
        gflop_per_second=4520.0,
    ),
}
