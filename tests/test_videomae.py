"""VideoMAE: which window a frame's row comes from, against the network run by hand; and what a folder may hold."""

import json
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from faces import points_at, track_of
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from avfeat.encoders import build_encoder, card_of, hf, resolve
from avfeat.encoders.base import Rows
from avfeat.encoders.hf_named import NAMED
from avfeat.encoders.hf_video import WindowEncoder
from avfeat.errors import EncoderError, NoPicturesError, WeightsError
from avfeat.views import View, ViewMaker, Views, ViewSettings

TINY = dict(NAMED["videomae-large"].config) | {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 32,
}
DECODER = {"decoder_hidden_size": 24, "decoder_intermediate_size": 24, "decoder_num_hidden_layers": 1}


@pytest.fixture(autouse=True)
def tiny_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AVFEAT_CACHE", str(tmp_path / "cache"))
    for name in ("videomae-large", "videomae-large-face"):
        record = replace(NAMED[name], config=TINY, input=dict(NAMED[name].input) | {"size": 32})
        monkeypatch.setitem(hf.NAMED, name, record)
        monkeypatch.setitem(hf.CARDS, name, hf.named_card(name, record))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny network as published: made for pre-training, decoder and all, under the names of old."""
    folder = tmp_path_factory.mktemp("videomae")
    config = transformers.VideoMAEConfig(**TINY, **DECODER, decoder_num_attention_heads=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = transformers.VideoMAEForPreTraining(config)
        for name, tensor in network.named_parameters():
            if tensor.ndim <= 1:  # norms and biases that show when they are left out
                torch.nn.init.normal_(tensor, mean=1.0 if name.endswith("weight") else 0.0, std=0.3)
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def network(folder: Path) -> Any:
    return transformers.VideoMAEModel.from_pretrained(folder).eval()


def build(folder: Path | None, *names: str, **settings: str) -> WindowEncoder:
    encoder = build_encoder(*resolve(names or ("videomae-large",), weights=folder, settings=settings))
    assert isinstance(encoder, WindowEncoder)
    return encoder


def clip(frames: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (frames, 32, 32, 3), np.uint8)


def rows_of(encoder: WindowEncoder, pictures: NDArray[np.uint8], block: int = 32) -> list[Rows]:
    encoding = encoder.begin()
    for start in range(0, len(pictures), block):
        encoding.take(Views(start, {encoder.view: pictures[start : start + block]}))
    found = encoding.finish(encoder.wanted)
    return [rows for name in encoder.wanted if isinstance(rows := found[name], np.ndarray)]


@torch.inference_mode()
def by_hand(network: Any, window: NDArray[np.uint8]) -> Tensor:
    """Return the 8 vectors of 16 pictures: the network's own result, already normed, then the mean over places."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    values = torch.from_numpy(((window / 255 - mean) / std).astype(np.float32)).permute(0, 3, 1, 2)[None]
    tokens: Tensor = network(values).last_hidden_state
    assert tokens.shape == (1, 8 * 4, 32)
    return torch.stack([tokens[0, 4 * k : 4 * k + 4].mean(dim=0) for k in range(8)])


WINDOWS = {1: [0], 15: [0], 16: [0], 17: [0, 1], 31: [0, 15], 32: [0, 16], 33: [0, 16, 17], 50: [0, 16, 32, 34]}


@pytest.mark.parametrize(("frames", "starts"), WINDOWS.items())
def test_a_frame_takes_the_last_regular_window_that_holds_it_or_the_one_at_the_end(
    folder: Path, network: Any, frames: int, starts: list[int]
) -> None:
    pictures = clip(frames)
    (rows,) = rows_of(build(folder), pictures)
    assert rows.shape == (frames, 32)
    padded = np.concatenate([pictures, np.repeat(pictures[-1:], max(16 - frames, 0), axis=0)])
    vectors = {start: by_hand(network, padded[start : start + 16]) for start in starts}
    for frame in range(frames):
        regular = [start for start in starts if start % 16 == 0 and start <= frame < start + 16]
        start = max(regular, default=starts[-1])
        assert np.abs(rows[frame] - vectors[start][(frame - start) // 2].numpy()).max() < 1e-5, frame


@pytest.mark.parametrize("block", [1, 7, 16, 100])
def test_blocks_change_nothing(folder: Path, block: int) -> None:
    pictures = clip(41)
    encoder = build(folder, "videomae-large", "videomae-large@1")
    for one, two in zip(rows_of(encoder, pictures, block), rows_of(encoder, pictures), strict=True):
        assert np.array_equal(one, two)


def test_no_more_than_a_window_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = build(folder)
    encoding = encoder.begin()
    alive: list[weakref.ref[NDArray[np.uint8]]] = []
    for start in range(0, 64, 8):
        pictures = clip(8)
        alive.append(weakref.ref(pictures))
        encoding.take(Views(start, {encoder.view: pictures}))
        del pictures
        assert not any(each() is not None for each in alive)
        held: Any = encoding
        assert len(held._held) <= 16


def test_every_fourth_picture_makes_a_window_of_four_times_the_time(folder: Path, network: Any) -> None:
    pictures = clip(70)
    encoder = build(folder, sampling="4")
    assert encoder.span == 64
    (rows,) = rows_of(encoder, pictures)
    for frame in (0, 5, 40, 63, 64, 69):
        start = 0 if frame < 64 else 6
        place, own = divmod(frame - start, 4)
        vectors = by_hand(network, pictures[start + own : start + 64 : 4])
        assert np.abs(rows[frame] - vectors[place // 2].numpy()).max() < 1e-5


def test_inner_layers_are_raw_and_the_norm_comes_before_the_mean(folder: Path, network: Any) -> None:
    pictures = clip(16)
    names = ("videomae-large", "videomae-large@1", "videomae-large@3")
    last, first, third = rows_of(build(folder, *names), pictures)
    raw: dict[int, Tensor] = {}
    for number in (1, 3):
        network.encoder.layer[number - 1].register_forward_hook(
            lambda module, given, out, number=number: raw.__setitem__(number, out[0] if isinstance(out, tuple) else out)
        )
    by_hand(network, pictures)
    for number, rows in ((1, first), (3, third)):
        wanted = raw[number][0].view(8, 4, 32).mean(dim=1)
        assert np.abs(rows[::2] - wanted.numpy()).max() < 1e-5
    mean_then_norm = network.layernorm(torch.from_numpy(third)).detach().numpy()
    assert np.abs(mean_then_norm - last).max() > 1e-2
    unnormed = rows_of(build(folder, *names, final_norm="off"), pictures)
    assert np.array_equal(unnormed[0], third)
    assert np.array_equal(rows_of(build(folder, *names, final_norm="on"), pictures)[2], last)


def test_only_the_blocks_that_are_needed_are_kept(folder: Path) -> None:
    assert len(build(folder, "videomae-large@1")._network.layers) == 1
    assert len(build(folder)._network.layers) == 3


def renamed(folder: Path, target: Path, names: Mapping[str, str]) -> Path:
    """Write the folder again with some tensors called otherwise; "" leaves a tensor out."""
    target.mkdir()
    state = {names.get(key, key): tensor for key, tensor in load_file(folder / "model.safetensors").items()}
    state.pop("", None)
    save_file(state, target / "model.safetensors", {"format": "pt"})
    (target / "config.json").write_bytes((folder / "config.json").read_bytes())
    return target


def test_biases_are_read_under_their_published_and_their_newer_names(folder: Path, tmp_path: Path) -> None:
    # Other versions of transformers drop the published names, and only print so.
    newer = {
        key: key.replace("q_bias", "query.bias").replace("v_bias", "value.bias")
        for key in load_file(folder / "model.safetensors")
        if key.endswith(("q_bias", "v_bias"))
    }
    assert "videomae.encoder.layer.2.attention.attention.q_bias" in newer
    old, new = (rows_of(build(each), clip(16))[0] for each in (folder, renamed(folder, tmp_path / "new", newer)))
    assert np.array_equal(old, new)


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("videomae.encoder.layer.1.attention.output.dense.weight", r"layer\.1\.attention\.output\.dense\.weight"),
        ("videomae.encoder.layer.2.attention.attention.v_bias", r"layer\.2\.attention\.attention\.v"),
        ("videomae.embeddings.patch_embeddings.projection.bias", r"patch_embeddings\.projection\.bias"),
        ("videomae.layernorm.bias", r"layernorm\.bias"),
    ],
)
def test_a_tensor_that_is_missing_or_called_otherwise_is_an_error_that_names_it(
    folder: Path, tmp_path: Path, key: str, named: str
) -> None:
    for place, name in (("less", ""), ("other", f"{key}x")):
        with pytest.raises(WeightsError, match=named):
            build(renamed(folder, tmp_path / place, {key: name}))


def test_a_fine_tuned_or_another_network_is_refused(folder: Path, tmp_path: Path) -> None:
    other = renamed(folder, tmp_path / "tuned", {})
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"use_mean_pooling": True}))
    with pytest.raises(WeightsError, match=r"use_mean_pooling True instead of False; name it hf:"):
        build(other)
    with pytest.raises(EncoderError, match="has use_mean_pooling: it is fine-tuned with labels"):
        resolve([f"hf:{other}"])
    (other / "config.json").write_text(json.dumps(config | {"num_frames": 8}))
    with pytest.raises(WeightsError, match="num_frames 8 instead of 16"):
        build(other)
    (other / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(EncoderError, match="architecture 'vit'"):
        build(other)
    (other / "config.json").write_text(json.dumps(config))
    (other / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5, 0.5, 0.5]}))
    with pytest.raises(WeightsError, match="image_mean"):
        build(other)


def test_without_pictures_there_are_no_rows_and_unknown_settings_are_refused(folder: Path) -> None:
    encoder = build(folder)
    with pytest.raises(NoPicturesError):
        encoder.begin().finish(encoder.wanted)
    with pytest.raises(EncoderError, match="sampling is '2'"):
        build(folder, sampling="2")


def test_random_weights_follow_the_seed() -> None:
    pictures = clip(16)
    one, same, other = (
        rows_of(build_encoder(*resolve(["videomae-large"], seed=seed)), pictures)[0]  # type: ignore[arg-type]
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same) and not np.allclose(one, other)


def test_the_card_says_which_pictures_are_read() -> None:
    assert card_of("videomae-large").outputs[""].reads == (View("frame", 32, "bilinear", "squash"),)
    assert card_of("videomae-large", {"fit": "centre"}).outputs[""].reads == (View("frame", 32, "bilinear", "centre"),)
    assert card_of("videomae-large-face").outputs[""].reads == (View("face", 32, "bilinear", recipe="still"),)


def test_the_still_face_is_one_square_around_the_median_of_the_boxes() -> None:
    view = View("face", 48, "bilinear", recipe="still")
    points = np.stack([points_at(x, 120, 90) for x in (150, 160, 163)])
    picture = np.random.default_rng(1).integers(0, 256, (240, 320, 3), np.uint8)
    made = ViewMaker(frozenset({view}), ViewSettings(), track_of(points, 320, 240), "one", 320, 240)
    square = Image.fromarray(picture[62:179, 102:219]).resize((48, 48), Image.Resampling.BILINEAR)
    for found in made.make(np.repeat(picture[None], 3, axis=0), 0)[view]:
        np.testing.assert_array_equal(found, np.asarray(square))
