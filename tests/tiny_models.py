"""Tiny random checkpoints, written with ``save_pretrained`` as published ones are, so that tests load them as users do.

Each function makes a folder and returns it. The networks are small but whole: sound networks keep the published
convolution strides, picture and video networks read squares of 28 or 32 pixels.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SPEECH = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,  # of 16 channels: oneDNN's bfloat16 is wrong for groups of 8 and even kernels
}
_TOWER = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
_TEXT = _TOWER | {"num_hidden_layers": 1, "vocab_size": 20, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}


def tiny_wav2vec2(folder: Path, *, norm: str = "layer", stable: bool = True, **config: Any) -> Path:
    """wav2vec 2.0 like XLS-R (``layer``, stable) or like wav2vec2-base (``group``, not stable)."""
    return _speech(folder, "Wav2Vec2", norm, stable, config)


def tiny_hubert(folder: Path, *, norm: str = "layer", stable: bool = True, **config: Any) -> Path:
    """HuBERT like hubert-large."""
    return _speech(folder, "Hubert", norm, stable, config)


def tiny_wavlm(folder: Path, *, norm: str = "layer", stable: bool = True, **config: Any) -> Path:
    """WavLM like wavlm-large."""
    return _speech(folder, "WavLM", norm, stable, config)


def tiny_clip(folder: Path, **vision: Any) -> Path:
    """A whole CLIP, text tower included, as OpenAI published it; reads 28 px."""
    import transformers

    config = transformers.CLIPConfig(
        vision_config=_TOWER | {"image_size": 28, "patch_size": 14} | vision, text_config=_TEXT, projection_dim=16
    )
    _save(folder, transformers.CLIPModel, config)
    from avfeat.encoders.hf_named import NAMED

    usual = NAMED["clip-vit-l14"].input
    processor = {"do_center_crop": True, "crop_size": {"height": 28, "width": 28}, "size": {"shortest_edge": 28}}
    mean_and_std = {key: list(usual[key]) for key in ("image_mean", "image_std")}
    return _write_input(folder, processor | mean_and_std | {"resample": 3})


def tiny_siglip(folder: Path, **vision: Any) -> Path:
    """A whole SigLIP; reads 32 px, bilinear as SigLIP 2 does."""
    import transformers

    config = transformers.SiglipConfig(
        vision_config=_TOWER | {"image_size": 32, "patch_size": 16} | vision, text_config=_TEXT
    )
    _save(folder, transformers.SiglipModel, config)
    half = [0.5, 0.5, 0.5]
    return _write_input(
        folder, {"size": {"height": 32, "width": 32}, "resample": 2, "image_mean": half, "image_std": half}
    )


def tiny_dinov2(folder: Path, **vision: Any) -> Path:
    """A DINOv2 whose positions were made for 42 px and that reads 28 px, as the published ones do with 518 and 224."""
    return _dinov2(folder, "Dinov2", vision)


def tiny_dinov2_registers(folder: Path, **vision: Any) -> Path:
    """The same with four more tokens between the class token and the patches."""
    return _dinov2(folder, "Dinov2WithRegisters", {"num_register_tokens": 4} | vision)


def _dinov2(folder: Path, family: str, vision: dict[str, Any]) -> Path:
    import transformers

    config = getattr(transformers, f"{family}Config")(**(_TOWER | {"image_size": 42, "patch_size": 14} | vision))
    _save(folder, getattr(transformers, f"{family}Model"), config)
    processor = {"do_center_crop": True, "crop_size": {"height": 28, "width": 28}, "size": {"shortest_edge": 32}}
    mean_and_std = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    return _write_input(folder, processor | mean_and_std | {"resample": 3})


def tiny_whisper(folder: Path, **config: Any) -> Path:
    """A whole Whisper, decoder included, whose windows are 2 s long."""
    import transformers

    sizes = {"d_model": 32, "encoder_layers": 3, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "vocab_size": 20, "pad_token_id": 0}
    settings = sizes | heads | {"num_mel_bins": 16, "max_source_positions": 100, "max_target_positions": 8} | config
    _save(folder, transformers.WhisperForConditionalGeneration, transformers.WhisperConfig(**settings))
    spectra = {"feature_size": settings["num_mel_bins"], "hop_length": 160, "n_fft": 400, "chunk_length": 2}
    return _write_input(folder, spectra | {"sampling_rate": 16000})


def tiny_videomae(folder: Path, **config: Any) -> Path:
    """A VideoMAE with its decoder, as published; windows of 16 pictures of 32 px."""
    import transformers

    decoder = {"decoder_hidden_size": 24, "decoder_intermediate_size": 24, "decoder_num_hidden_layers": 1}
    windows = {"image_size": 32, "patch_size": 16, "num_frames": 16, "use_mean_pooling": False}
    settings = transformers.VideoMAEConfig(**(_TOWER | windows | decoder | {"decoder_num_attention_heads": 4} | config))
    _save(folder, transformers.VideoMAEForPreTraining, settings)
    return _write_input(
        folder, {"resample": 2, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    )


def tiny_vjepa2(folder: Path, **config: Any) -> Path:
    """A V-JEPA 2 with its predictor, as published; windows of 8 pictures of 32 px."""
    import transformers

    predictor = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 2}
    windows = {"crop_size": 32, "patch_size": 16, "frames_per_clip": 8, "tubelet_size": 2}
    tower = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    _save(folder, transformers.VJEPA2Model, transformers.VJEPA2Config(**(tower | windows | predictor | config)))
    return folder


TINY_SPEECH: dict[str, Callable[[Path], Path]] = {
    "wav2vec2": tiny_wav2vec2,
    "hubert": tiny_hubert,
    "wavlm": tiny_wavlm,
}
TINY_PICTURES: dict[str, Callable[[Path], Path]] = {
    "clip": tiny_clip,
    "siglip": tiny_siglip,
    "dinov2": tiny_dinov2,
}
TINY_VIDEOS: dict[str, Callable[[Path], Path]] = {
    "videomae": tiny_videomae,
    "vjepa2": tiny_vjepa2,
}
TINY_MODELS = TINY_SPEECH | TINY_PICTURES | TINY_VIDEOS | {"whisper": tiny_whisper}
"""Every family that transformers can load for us."""


def _speech(folder: Path, family: str, norm: str, stable: bool, config: dict[str, Any]) -> Path:
    import transformers

    settings = _SPEECH | {"feat_extract_norm": norm, "do_stable_layer_norm": stable, "conv_bias": norm == "layer"}
    _save(
        folder, getattr(transformers, f"{family}Model"), getattr(transformers, f"{family}Config")(**(settings | config))
    )
    return _write_input(folder, {"do_normalize": True, "sampling_rate": 16000, "return_attention_mask": True})


def _save(folder: Path, network_class: Any, config: Any) -> None:
    """Write a network whose norms and biases are random too, so that a test sees one that is left out."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sum(map(ord, network_class.__name__)))
        network = network_class(config)
        for name, tensor in network.named_parameters():
            if tensor.ndim <= 1:
                torch.nn.init.normal_(tensor, mean=1.0 if name.endswith("weight") else 0.0, std=0.3)
    network.save_pretrained(folder)


def _write_input(folder: Path, content: dict[str, Any]) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    return folder
