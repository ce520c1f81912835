import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from avfeat.encoders import build_encoder, card_of, resolve
from avfeat.encoders.base import Encoder, Rows
from avfeat.encoders.hf_vision import PictureEncoder
from avfeat.errors import EncoderError, NoPicturesError
from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.options import Options
from avfeat.session import Session
from avfeat.views import FRAME, View, Views
from tests.tiny_models import TINY_PICTURES, tiny_clip, tiny_dinov2, tiny_siglip

NETWORKS = {"clip": "CLIPVisionModel", "siglip": "SiglipVisionModel", "dinov2": "Dinov2Model"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("pictures")

    def get(family: str) -> Path:
        folder = root / family
        return folder if folder.exists() else TINY_PICTURES[family](folder)

    return get


def _pictures(count: int, size: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def _build(folder: Path, *suffixes: str, settings: Mapping[str, Any] | None = None) -> PictureEncoder:
    encoder = build_encoder(*resolve([f"hf:{folder}{suffix}" for suffix in suffixes or ("",)], settings=settings))
    assert isinstance(encoder, PictureEncoder)
    return encoder


def _encode(encoder: PictureEncoder, pictures: NDArray[np.uint8], block: int = 32) -> list[Rows]:
    encoding = encoder.begin()
    for start in range(0, len(pictures), block):
        encoding.take(Views(start, {encoder.view: pictures[start : start + block]}))
    given = encoding.finish(encoder.wanted)
    return [given[name] for name in encoder.wanted]  # type: ignore[misc]


def _own_output(family: str, folder: Path, pictures: NDArray[np.uint8]) -> Any:
    """Return what transformers gives for pictures that have the right size already, through its own preparation."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    values = processor(list(pictures), do_resize=False, do_center_crop=False, return_tensors="pt").pixel_values
    network = getattr(transformers, NETWORKS[family]).from_pretrained(folder).eval()
    with torch.inference_mode():
        return network(values, output_hidden_states=True)


@pytest.mark.parametrize("family", NETWORKS)
def test_vectors_are_those_of_the_networks_own_code(folders: Callable[[str], Path], family: str) -> None:
    encoder = _build(folders(family), "", "@1", "@3")
    pictures = _pictures(5, encoder.view.size_px)
    own = _own_output(family, folders(family), pictures)
    pooled, first, third = _encode(encoder, pictures)
    assert np.abs(pooled - own.pooler_output.numpy()).max() < 1e-5
    for got, tokens in ((first, own.hidden_states[1]), (third, own.hidden_states[3])):
        right = tokens.mean(dim=1) if family == "siglip" else tokens[:, 0]
        assert np.abs(got - right.numpy()).max() < 1e-5


@pytest.mark.parametrize("family", NETWORKS)
def test_a_picture_does_not_see_its_neighbours(folders: Callable[[str], Path], family: str) -> None:
    encoder = _build(folders(family), "", "@2")
    pictures = _pictures(33, encoder.view.size_px)
    for alone, together in zip(_encode(encoder, pictures, 1), _encode(encoder, pictures, 33), strict=True):
        assert together.shape == (33, 32)
        assert np.abs(alone - together).max() < 1e-4


@pytest.mark.parametrize("family", ["clip", "dinov2"])
def test_the_final_norm_is_where_the_setting_says(folders: Callable[[str], Path], family: str) -> None:
    folder = folders(family)
    auto = _build(folder, "", "@3", "@1")
    pictures = _pictures(3, auto.view.size_px)
    auto_rows = _encode(auto, pictures)
    on = _encode(_build(folder, "", "@3", "@1", settings={"final_norm": "on"}), pictures)
    off = _encode(_build(folder, "", "@3", "@1", settings={"final_norm": "off"}), pictures)
    assert np.abs(auto_rows[0] - on[0]).max() < 1e-6 and np.abs(auto_rows[0] - on[1]).max() < 1e-6
    assert np.array_equal(auto_rows[1], off[1]) and np.array_equal(off[0], off[1])
    assert np.abs(on[0] - off[0]).max() > 0.1 and np.abs(on[2] - off[2]).max() > 0.1


def test_a_pooling_over_normed_tokens_cannot_be_had_without_the_norm(folders: Callable[[str], Path]) -> None:
    with pytest.raises(EncoderError, match="ask for siglip@3"):
        _build(folders("siglip"), settings={"final_norm": "off"})


def test_a_layer_alone_is_the_same_numbers_from_a_shorter_network(folders: Callable[[str], Path]) -> None:
    for family in NETWORKS:
        short, whole = _build(folders(family), "@1"), _build(folders(family), "", "@1")
        assert (len(short._network.layers), len(whole._network.layers)) == (1, 3)
        pictures = _pictures(2, short.view.size_px)
        assert np.array_equal(_encode(short, pictures)[0], _encode(whole, pictures)[1])


def test_the_checkpoint_says_what_size_and_filter_it_wants(folders: Callable[[str], Path]) -> None:
    assert _build(folders("clip")).view == View("frame", 28, "bicubic", "squash")
    assert _build(folders("siglip")).view == View("frame", 32, "bilinear", "squash")
    assert _build(folders("dinov2")).view == View("frame", 28, "bicubic", "squash")
    assert _build(folders("dinov2"), ":face").view == View("face", 28, "bicubic")
    assert _build(folders("clip"), settings={"fit": "centre"}).view == View("frame", 28, "bicubic", "centre")


@pytest.mark.parametrize("name", ["named", "adapted"])
def test_a_setting_changes_what_the_card_says_is_read(folders: Callable[[str], Path], name: str) -> None:
    encoder = "clip-vit-l14" if name == "named" else f"hf:{folders('clip')}"
    assert card_of(encoder).outputs[""].reads[0].fit == "squash"
    assert card_of(encoder, {"fit": "letterbox"}).outputs[""].reads[0].fit == "letterbox"


def test_extraction_cuts_the_pictures_that_the_setting_asks_for(folders: Callable[[str], Path], tmp_path: Path) -> None:
    requests = resolve([f"hf:{folders('clip')}"], settings={"fit": "centre"})
    manifest = Manifest.from_rows([Row("a", "a.mp4")], DatasetInfo("one"))
    session = Session(manifest, tmp_path, tmp_path / "store", requests, Options(device="cpu"))
    (task,) = session.tasks()
    session.open([task])
    (job,) = session.jobs(task)
    assert job.views == {View("frame", 28, "bicubic", "centre")} == build_encoder(*requests).reads()


def test_the_published_size_shares_the_view_that_others_read(tmp_path: Path) -> None:
    folder = tiny_clip(tmp_path / "usual", image_size=224, patch_size=112)
    assert _build(folder).view == FRAME


def test_the_face_has_its_own_name_and_no_choice_of_fit(folders: Callable[[str], Path]) -> None:
    encoder = _build(folders("clip"), ":face", ":face@2")
    assert [str(name) for name in encoder.wanted] == ["clip-face", "clip-face@2"]
    with pytest.raises(EncoderError, match="clip-face has no setting 'fit'"):
        _build(folders("clip"), ":face", settings={"fit": "centre"})


def test_the_checkpoints_own_mean_and_deviation_are_used(tmp_path: Path) -> None:
    folder = tiny_clip(tmp_path / "shifted")
    pictures = _pictures(2, 28)
    (before,) = _encode(_build(folder), pictures)
    description = folder / "preprocessor_config.json"
    content = json.loads(description.read_text()) | {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    description.write_text(json.dumps(content))
    (after,) = _encode(_build(folder), pictures)
    assert np.abs(after - before).max() > 0.01
    assert np.abs(after - _own_output("clip", folder, pictures).pooler_output.numpy()).max() < 1e-5
    description.unlink()
    (usual,) = _encode(_build(folder), pictures)
    assert np.array_equal(usual, before)


@pytest.mark.parametrize(
    ("make", "content", "sentence"),
    [
        (tiny_clip, {"resample": 1}, "filter 1"),
        (tiny_siglip, {"rescale_factor": 0.5}, "pixels times 0.5"),
        (
            tiny_dinov2,
            {"crop_size": {"height": 30, "width": 30}, "do_center_crop": True},
            "30 px, no multiple of its 14",
        ),
    ],
)
def test_an_input_that_cannot_be_made_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], content: dict[str, Any], sentence: str
) -> None:
    folder = make(tmp_path / "odd")
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    with pytest.raises(EncoderError, match=sentence):
        resolve([f"hf:{folder}"])


def test_a_clip_without_a_single_picture_is_a_failed_clip(folders: Callable[[str], Path]) -> None:
    encoder: Encoder = _build(folders("clip"))
    encoding = encoder.begin()
    encoding.take(Views())
    with pytest.raises(NoPicturesError, match="clip was given no picture"):
        encoding.finish(encoder.wanted)
