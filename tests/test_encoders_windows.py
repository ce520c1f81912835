"""V-JEPA 2, and VideoMAE by the name of its folder: the windows' code is tested in test_videomae.py."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

from avfeat.encoders import build_encoder, card_of, resolve
from avfeat.encoders.base import Rows
from avfeat.encoders.hf_video import WindowEncoder
from avfeat.views import View, Views
from tests.tiny_models import TINY_VIDEOS, tiny_vjepa2


def _build(folder: Path, *suffixes: str, **settings: str) -> WindowEncoder:
    encoder = build_encoder(*resolve([f"hf:{folder}{suffix}" for suffix in suffixes or ("",)], settings=settings))
    assert isinstance(encoder, WindowEncoder)
    return encoder


def _encode(encoder: WindowEncoder, pictures: NDArray[np.uint8]) -> list[Rows]:
    encoding = encoder.begin()
    encoding.take(Views(0, {encoder.view: pictures}))
    given = encoding.finish(encoder.wanted)
    return [given[name] for name in encoder.wanted]  # type: ignore[misc]


def _pictures(frames: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (frames, 32, 32, 3), np.uint8)


def test_a_window_of_v_jepa_2_gives_the_means_of_its_own_codes_tokens(tmp_path: Path) -> None:
    folder = tiny_vjepa2(tmp_path / "vjepa2")
    network = transformers.VJEPA2Model.from_pretrained(folder).eval()
    pictures = _pictures(8)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    values = torch.from_numpy(((pictures / 255 - mean) / std).astype(np.float32)).permute(0, 3, 1, 2)[None]
    raw: list[Tensor] = []
    network.encoder.layer[0].register_forward_hook(lambda module, given, output: raw.append(output[0]))
    with torch.inference_mode():
        tokens = network.get_vision_features(values)
    assert tokens.shape == (1, 4 * 4, 48)  # four tubes of two pictures, four places
    last, first = _encode(_build(folder, "", "@1"), pictures)
    for rows, right in ((last, tokens), (first, raw[0])):
        assert np.abs(rows[::2] - right.view(4, 4, 48).mean(dim=1).numpy()).max() < 1e-5
        assert np.array_equal(rows[::2], rows[1::2])


def test_the_last_window_ends_with_the_clip(tmp_path: Path) -> None:
    encoder = _build(tiny_vjepa2(tmp_path / "vjepa2"))
    pictures = _pictures(19)
    (rows,) = _encode(encoder, pictures)
    (tail,) = _encode(encoder, pictures[11:])
    assert np.array_equal(rows[16:], tail[5:])


@pytest.mark.parametrize("family", TINY_VIDEOS)
def test_a_folder_of_a_video_network_says_what_it_reads_and_offers_its_settings(tmp_path: Path, family: str) -> None:
    folder = TINY_VIDEOS[family](tmp_path / family)
    assert card_of(f"hf:{folder}").outputs[""].reads == (View("frame", 32, "bilinear", "squash"),)
    assert card_of(f"hf:{folder}:face").outputs[""].reads == (View("face", 32, "bilinear", recipe="still"),)
    assert card_of(f"hf:{folder}", {"fit": "centre"}).outputs[""].reads[0].fit == "centre"
    assert _build(folder, sampling="4").span == 4 * _build(folder).span


def test_the_named_v_jepa_2_reads_windows_of_64_pictures_of_256_px() -> None:
    assert card_of("vjepa2-vitl").outputs[""].reads == (View("frame", 256, "bilinear", "squash"),)
