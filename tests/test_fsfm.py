"""FSFM against tensors that the reference made, against another ViT, and on what its files may hold."""

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faces import points_at, track_of
from golden import more_folders
from numpy.typing import NDArray
from PIL import Image
from reader_goldens import SHARED, worst
from safetensors.torch import load_file, save_file
from torch import Tensor

from avfeat.encoders import build_encoder, card_of, fsfm, fsfm_encoder, resolve
from avfeat.encoders.base import Encoder, FeatureName, Output, Rows
from avfeat.encoders.fsfm import Sizes
from avfeat.encoders.fsfm_encoder import (
    DEVIATION,
    IGNORED,
    MEAN,
    FsfmEncoder,
    Weights,
    encoder_tensors,
    find_weights,
    read_state,
    statistics,
)
from avfeat.encoders.fsfm_model import FaceTransformer, fresh_tensors, network_of, official_shapes
from avfeat.errors import EncoderError, WeightsError
from avfeat.views import FACE, FACE_PLAIN, View, ViewMaker, Views, ViewSettings

TINY = Sizes(width=32, layers=3, heads=4)
FILES = ("golden.json", "io.safetensors", "state_dict.safetensors")


def golden_sets() -> list[Any]:
    return list(_golden_sets())


def _golden_sets() -> Iterator[Any]:
    if (SHARED / "fsfm").is_dir():
        yield pytest.param(SHARED / "fsfm", marks=pytest.mark.shared, id="shared")
    for folder in more_folders("state_dict.safetensors"):
        if all((folder / name).is_file() for name in FILES):
            yield pytest.param(folder, id=str(folder))


def golden(folder: Path) -> tuple[FaceTransformer, Weights, dict[str, Tensor]]:
    facts = json.loads((folder / "golden.json").read_text())
    config = facts["config"]
    sizes = Sizes(config["embed_dim"], config["depth"], config["num_heads"], config["img_size"], config["patch_size"])
    tensors = encoder_tensors(load_file(folder / "state_dict.safetensors"), "golden", sizes)
    assert sorted(tensors) == sorted(facts["state_dict.safetensors"]["encoder_keys"])
    said = facts["normalisation"]
    weights = Weights(tensors, sizes, tuple(said["mean"]), tuple(said["std"]), {})
    return network_of(tensors, sizes), weights, load_file(folder / "io.safetensors")


def encoder_of(weights: Weights, *names: str, **settings: str) -> FsfmEncoder:
    settings = {"pooling": "mean", "crop": "upright", "fit": "squash"} | settings
    view = fsfm.view(settings["crop"], settings["fit"])
    card = replace(fsfm.card(view), outputs={"": Output((view,), weights.sizes.width)}, layers=weights.sizes.layers)
    wanted = tuple(FeatureName.parse(name) for name in (names or ("fsfm-vit-b16",)))
    return FsfmEncoder(card, wanted, weights, settings)


def rows_of(encoder: Encoder, pictures: NDArray[np.uint8]) -> list[Rows]:
    encoding = encoder.begin()
    (view,) = encoder.reads()
    for start in range(0, len(pictures), 3):
        encoding.take(Views(start, {view: pictures[start : start + 3]}))
    found = encoding.finish(encoder.wanted)
    return [rows for name in encoder.wanted if isinstance(rows := found[name], np.ndarray)]


@pytest.fixture(scope="module")
def tiny() -> Weights:
    tensors = fresh_tensors(TINY, 1)
    random = torch.Generator().manual_seed(2)
    for key, tensor in tensors.items():
        if tensor.ndim == 1:  # norms and biases that show when they are left out
            tensors[key] = tensor + 0.3 * torch.randn(tensor.shape, generator=random)
    return Weights(tensors, TINY, MEAN, DEVIATION, {"weights": "made"})


def noise(count: int, size: int = 224) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def file_content(state: dict[str, Tensor]) -> dict[str, Any]:
    """Return what an official file holds beside the encoder: training's parts and a Namespace."""
    training = ("mask_token", "decoder_blocks.0.norm1.bias", "rep_decoder_pred.bias", "decoder_norm.weight")
    heads = ("projector.projection_head.0.bias", "predictor.projection_head.0.bias")
    model = state | {key: torch.zeros(2) for key in (*training, *heads)}
    return {"model": model, "epoch": 400, "args": argparse.Namespace(lr=1e-4, device="cuda"), "scaler": {}}


@pytest.mark.parametrize("folder", golden_sets())
@torch.inference_mode()
def test_every_step_is_the_references(folder: Path) -> None:
    network, weights, io = golden(folder)
    depth = weights.sizes.layers
    assert worst(network.embed(io["pixel_values"]), io["hidden_0"]) < 5e-5
    tokens = network(io["pixel_values"], range(1, depth + 1))
    for number in range(1, depth + 1):
        assert worst(tokens[number], io[f"hidden_{number}"]) < 5e-5
    assert worst(network.norm(tokens[depth]), io["tokens_normed"]) < 5e-5


@pytest.mark.parametrize("folder", golden_sets())
def test_a_crop_gives_the_references_features(folder: Path) -> None:
    _, weights, io = golden(folder)
    crop = Image.fromarray(io["crop_uint8"].numpy())
    for fit, key, wanted in (
        ("squash", "pixel_values", {"mean": "feat_gap", "class": "feat_cls"}),
        ("resize256-centre224", "pixel_values_resize256_center224", {}),
    ):
        encoder = encoder_of(weights, fit=fit)
        size = encoder.view.size_px
        picture = np.array(crop.resize((size, size), Image.Resampling.BICUBIC))[None]
        assert (encoder.values(picture) - io[key]).abs().max() < 1e-6 * io[key].abs().max() + 1e-6
        for pooling, feature in wanted.items():
            (rows,) = rows_of(encoder_of(weights, pooling=pooling), picture)
            assert worst(rows, io[feature]) < 5e-5


@torch.inference_mode()
def test_another_implementation_of_the_transformer_gives_the_same_tokens(tiny: Weights) -> None:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128, layer_norm_eps=1e-6
    )
    other = ViTModel(config, add_pooling_layer=False).eval()
    renamed = dict(tiny.tensors)
    state = {
        "embeddings.cls_token": renamed["cls_token"],
        "embeddings.position_embeddings": renamed["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": renamed["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": renamed["patch_embed.proj.bias"],
        "layernorm.weight": renamed["norm.weight"],
        "layernorm.bias": renamed["norm.bias"],
    }
    named = [name for name, _ in other.named_parameters()]
    for number in range(3):
        ours = f"blocks.{number}."
        for kind in ("weight", "bias"):
            parts = renamed[f"{ours}attn.qkv.{kind}"].chunk(3)
            values = {"q": parts[0], "k": parts[1], "v": parts[2], "o": renamed[f"{ours}attn.proj.{kind}"]}
            values |= {
                "up": renamed[f"{ours}mlp.fc1.{kind}"],
                "down": renamed[f"{ours}mlp.fc2.{kind}"],
                "before": renamed[f"{ours}norm1.{kind}"],
                "after": renamed[f"{ours}norm2.{kind}"],
            }
            for what, value in values.items():
                state[place_in_other(named, number, what, kind)] = value
    assert state.keys() == set(named)
    other.load_state_dict(state)
    pictures = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    network = network_of(tiny.tensors, TINY)
    tokens = network(pictures, {3})[3]
    assert (network.norm(tokens) - other(pictures).last_hidden_state).abs().max() < 2e-5


def place_in_other(named: list[str], number: int, what: str, kind: str) -> str:
    """Return the name in transformers, whose versions call these parts differently."""
    ends = {
        "q": r"(query|q_proj)",
        "k": r"(key|k_proj)",
        "v": r"(value|v_proj)",
        "o": r"(attention\.output\.dense|o_proj|out_proj)",
        "up": r"(intermediate\.dense|fc1)",
        "down": r"(?<!attention\.)(output\.dense|fc2)",
        "before": r"layernorm_before",
        "after": r"layernorm_after",
    }
    (place,) = [name for name in named if re.search(rf"layers?\.{number}\..*?{ends[what]}\.{kind}$", name)]
    return place


@torch.inference_mode()
def test_the_poolings_are_what_they_are_called(tiny: Weights) -> None:
    pictures = noise(4)
    names = ("fsfm-vit-b16", "fsfm-vit-b16@3", "fsfm-vit-b16@1")
    last, third, first = rows_of(encoder_of(tiny, *names), pictures)
    assert np.array_equal(last, third) and not np.allclose(last, first)
    assert np.abs(last.mean(axis=1)).max() < 1e-5 and last.std(axis=1) == pytest.approx(1, abs=1e-3)
    normed, raw, _ = rows_of(encoder_of(tiny, *names, pooling="class"), pictures)
    network = network_of(tiny.tensors, TINY)
    assert np.abs(network.norm(torch.from_numpy(raw)).numpy() - normed).max() < 1e-5
    assert not np.allclose(normed, last, atol=0.1)


def test_a_picture_gives_the_same_row_alone_and_among_others(tiny: Weights) -> None:
    pictures = noise(35)
    (together,) = rows_of(encoder_of(tiny), pictures)
    assert together.shape == (35, 32)
    (alone,) = rows_of(encoder_of(tiny), pictures[20:21])
    assert np.abs(together[20:21] - alone).max() < 1e-5


@torch.inference_mode()
def test_an_inner_layer_runs_no_further_block(tiny: Weights) -> None:
    network = network_of(tiny.tensors, TINY)
    ran: list[int] = []
    for number, block in enumerate(network.blocks, 1):
        block.register_forward_hook(lambda module, given, out, number=number: ran.append(number))
    network(torch.zeros(1, 3, 224, 224), {1, 2})
    assert ran == [1, 2]


def test_an_official_file_is_read_and_nothing_in_it_runs(
    tmp_path: Path, tiny: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVFEAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fsfm_encoder, "SIZES", TINY)
    path = tmp_path / "checkpoint-400.pth"
    torch.save(file_content(dict(tiny.tensors)), path)
    found = find_weights(path, None)
    assert all(torch.equal(found.tensors[key], tensor) for key, tensor in tiny.tensors.items())
    assert found.tensors.keys() == tiny.tensors.keys()
    assert (found.mean, found.deviation) == (MEAN, DEVIATION) and found.origin["network"] == "online"
    (tmp_path / "pretrain_ds_mean_std.txt").write_text('{"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1]}\nmore\n')
    found = find_weights(path, None)
    assert (found.mean, found.deviation) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    assert [each["file"] for each in found.origin["weights"]] == ["checkpoint-400.pth", "pretrain_ds_mean_std.txt"]
    safe = tmp_path / "encoder.safetensors"
    save_file(dict(tiny.tensors), safe)
    assert find_weights(safe, None).origin["network"] == "unknown"


def test_the_target_network_of_training_is_told_from_the_online_one(tmp_path: Path, tiny: Weights) -> None:
    content = file_content(dict(tiny.tensors))
    content["model"] = {key: each for key, each in content["model"].items() if not key.startswith("predictor.")}
    assert fsfm_encoder._network_kind(content["model"]) == "target"


@pytest.mark.parametrize("said", ["", "{}", '{"mean": [0.5], "std": [0.1, 0.1, 0.1]}', '{"mean": 1, "std": 2}'])
def test_statistics_that_say_nothing_are_an_error(tmp_path: Path, said: str) -> None:
    (tmp_path / "pretrain_ds_mean_std.txt").write_text(said)
    with pytest.raises(WeightsError, match=r"pretrain_ds_mean_std\.txt should"):
        statistics(tmp_path / "checkpoint-400.pth")


def test_files_of_something_else_are_refused(tmp_path: Path, tiny: Weights) -> None:
    state = dict(tiny.tensors)
    lacking = {key: each for key, each in state.items() if key != "blocks.1.attn.qkv.bias"}
    with pytest.raises(WeightsError, match=r"blocks\.1\.attn\.qkv\.bias is missing"):
        encoder_tensors(lacking, "a.pth", TINY)
    with pytest.raises(WeightsError, match="surprise is not known"):
        encoder_tensors(state | {"surprise": torch.zeros(1)}, "a.pth", TINY)
    tuned = {key: each for key, each in state.items() if not key.startswith("norm.")}
    with pytest.raises(WeightsError, match=r"a\.pth is fine-tuned: fc_norm\.weight, head\.bias are there"):
        encoder_tensors(tuned | {"fc_norm.weight": torch.zeros(32), "head.bias": torch.zeros(2)}, "a.pth", TINY)
    torch.save({"state": 1}, tmp_path / "b.pth")
    with pytest.raises(WeightsError, match="no table of tensors called 'model'"):
        read_state(tmp_path / "b.pth")
    with pytest.raises(WeightsError, match=r"checkpoint-400\.pth .*--weights"):
        find_weights(None, None)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVFEAT_CACHE", str(tmp_path / "cache"))


@pytest.mark.shared
def test_names_and_shapes_are_those_of_the_real_file() -> None:
    keys = json.loads((SHARED / "fsfm" / "vit_base_keys.json").read_text())
    found = official_shapes(fsfm.SIZES)
    assert found == {key: tuple(shape) for key, shape in keys["encoder"].items()}
    assert sum(int(np.prod(shape)) for shape in found.values()) == keys["n_encoder_params"]
    assert all(key.startswith(IGNORED) for key in keys["ignored"])
    assert not any(key.startswith(IGNORED) for key in found)


def test_random_weights_follow_the_seed_and_the_references_rules() -> None:
    one, same, other = (fresh_tensors(TINY, seed) for seed in (3, 3, 4))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["cls_token"], other["cls_token"])
    assert one["blocks.0.mlp.fc1.weight"].abs().max() == pytest.approx((6 / 160) ** 0.5, rel=0.01)
    assert one["norm.weight"].eq(1).all() and one["blocks.2.attn.qkv.bias"].eq(0).all()
    positions = one["pos_embed"][0]
    assert positions[0].eq(0).all()
    # Row 2, column 5: the first half says the column, the second the row.
    patch = positions[1 + 2 * 14 + 5]
    assert patch[[0, 8, 16, 24]].tolist() == pytest.approx([np.sin(5), np.cos(5), np.sin(2), np.cos(2)], abs=1e-6)
    assert patch[1] == pytest.approx(np.sin(5 / 10_000 ** (1 / 8)), abs=1e-6)


def test_settings_choose_the_view() -> None:
    def view(**settings: str) -> View:
        return card_of("fsfm-vit-b16", settings).outputs[""].reads[0]

    assert view() == FACE and view(crop="plain") == FACE_PLAIN
    assert view(fit="resize256-centre224") == replace(FACE, size_px=256)


def test_named_random_weights_build_the_published_size() -> None:
    encoder = build_encoder(*resolve(["fsfm-vit-b16@1"], seed=3))
    (rows,) = rows_of(encoder, noise(1))
    assert rows.shape == (1, 768) and encoder.provenance["seed"] == 3
    with pytest.raises(EncoderError, match="pooling is 'max'"):
        build_encoder(*resolve(["fsfm-vit-b16"], seed=3, settings={"pooling": "max"}))


@pytest.mark.parametrize(
    ("x", "y", "size", "box"),
    [
        (160, 120, 90, (102, 62, 117)),  # 115.9 … 205.1: the box is 90, the square int(1.3 * 90) = 117
        (40, 120, 90, (0, 62, 117)),  # held at the left border
        (300, 120, 90, (242, 62, 78)),  # cut to what fits on the right
    ],
)
def test_the_plain_face_is_the_square_that_the_authors_cut(
    x: int, y: int, size: int, box: tuple[int, int, int]
) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (240, 320, 3), np.uint8)
    points = points_at(x, y, size)[None]
    view = replace(FACE_PLAIN, size_px=64)
    made = ViewMaker(frozenset({view}), ViewSettings(), track_of(points, 320, 240), "one", 320, 240)
    left, top, side = box
    square = Image.fromarray(picture[top : top + side, left : left + side])
    wanted = np.asarray(square.resize((64, 64), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(made.make(picture[None], 0)[view][0], wanted)


def test_a_plain_face_outside_of_the_picture_is_black() -> None:
    view = replace(FACE_PLAIN, size_px=32)
    track = track_of(points_at(900, 120, 60)[None], 320, 240)
    made = ViewMaker(frozenset({view}), ViewSettings(), track, "one", 320, 240)
    assert not made.make(np.full((1, 240, 320, 3), 255, np.uint8), 0)[view].any()
