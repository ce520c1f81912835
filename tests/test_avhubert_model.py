"""The network against tensors that the reference implementation made."""

import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from avfeat.encoders.avhubert.initial import random_tensors
from avfeat.encoders.avhubert.model import AvHubert
from avfeat.encoders.avhubert.published import Architecture
from avfeat.encoders.avhubert.state import (
    NOT_NEEDED,
    architecture_of,
    check_tensors,
    encoder_tensors,
    model_of,
    official_shapes,
)
from avfeat.errors import WeightsError
from tests.golden import HERE, golden_architecture, more_folders

TINY = Architecture(width=64, layers=2, ffn=128, heads=4, resnet_width=8)


@dataclass(frozen=True)
class Case:
    """One model of a golden set: its facts in ``model_cases.json``, and how its tensors are called there."""

    folder: Path
    name: str
    facts: dict[str, Any]

    @property
    def seeded(self) -> bool:
        return self.name.startswith("seeded_")

    def architecture(self) -> Architecture:
        return golden_architecture(self.facts)

    def tensors(self) -> dict[str, Tensor]:
        """Return inputs and outputs, without the case's own prefix."""
        if not self.seeded:
            return load_file(self.folder / f"{self.name}_io.safetensors")
        prefix = f"{self.name.removeprefix('seeded_')}."
        everything = load_file(self.folder / "seeded_io.safetensors")
        own = {key.removeprefix(prefix): tensor for key, tensor in everything.items() if key.startswith(prefix)}
        return own | {key: tensor for key, tensor in everything.items() if key.startswith("in.")}

    def model(self) -> AvHubert:
        architecture = self.architecture()
        if self.seeded:
            return model_of(recipe(architecture, self.facts["weight_seed"]), architecture)
        bare = encoder_tensors(load_file(self.folder / f"{self.name}_weights.safetensors"), self.name)
        found = architecture_of(bare, architecture.heads, architecture.norm_first, self.name)
        assert found == architecture
        check_tensors(bare, found, self.name)
        return model_of(bare, found)


def recipe(architecture: Architecture, seed: int) -> dict[str, Tensor]:
    """Return the weights that the golden set's README describes."""
    return {key: drawn(key, shape, architecture.width, seed) for key, shape in official_shapes(architecture).items()}


def drawn(key: str, shape: tuple[int, ...], width: int, seed: int) -> Tensor:
    random = np.random.RandomState(zlib.crc32(f"{seed}/{key}".encode()) & 0xFFFFFFFF)
    n = random.standard_normal(int(np.prod(shape))).reshape(shape)
    return torch.from_numpy(_shaped(key, n, width).astype(np.float32))


def _shaped(key: str, n: Any, width: int) -> Any:
    if key.endswith("running_mean") or key.endswith(".bias"):
        return 0.1 * n
    if key.endswith("running_var"):
        return np.exp(0.2 * n)
    if key.endswith("weight_g"):
        return 0.1 * np.sqrt(width) * (1 + 0.1 * n)
    if key.endswith("weight_v"):
        return n
    if n.ndim == 1:
        slope = ".relu" in key or key.endswith("frontend3D.2.weight")
        return 0.25 + 0.1 * n if slope else 1 + 0.1 * n
    return n / np.sqrt(np.prod(n.shape[1:]))


BIG = ("seeded_base_postnorm", "seeded_large")
"""Models that take their time to make, the large one 20 s and 2.6 GB: a single test for each."""


def cases() -> Iterator[Case]:
    """All cases of our set and of those below AVFEAT_GOLDEN."""
    for folder in (HERE / "avhubert", *more_folders("model_cases.json")):
        for name, facts in json.loads((folder / "model_cases.json").read_text())["cases"].items():
            yield Case(folder, name, facts)


def label(case: Case) -> str:
    return f"{case.folder.parent.name}-{case.name}"


@pytest.fixture(scope="module", params=[case for case in cases() if case.name not in BIG], ids=label)
def golden(request: pytest.FixtureRequest) -> tuple[Case, AvHubert, dict[str, Tensor]]:
    case: Case = request.param
    return case, case.model(), case.tensors()


def worst(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference, in units of the larger of 1 and the largest wanted value."""
    assert found.shape == wanted.shape
    return float((found.double() - wanted.double()).abs().max()) / max(1.0, float(wanted.abs().max()))


def streams(tensors: dict[str, Tensor], name: str) -> tuple[Tensor | None, Tensor | None]:
    """Return sound [clip, T, 104] and lips [clip, T, 88, 88] for an output called ``both``, ``video`` or ``audio``."""
    audio = tensors["in.audio"].transpose(1, 2)
    video = tensors["in.video"][:, 0]
    return (None if name == "video" else audio), (None if name == "audio" else video)


@torch.inference_mode()
def check_outputs(model: AvHubert, tensors: dict[str, Tensor]) -> None:
    keys = [
        (key, match[1], int(match[2]) if match[2] else None)
        for key in tensors
        if (match := re.fullmatch(r"(?:f64\.)?out\.(both|video|audio)(?:\.layer(\d+))?", key))
    ]
    assert len(keys) >= 7
    for name in ("both", "video", "audio"):
        wanted = {key: layer for key, stream, layer in keys if stream == name}
        found = model(*streams(tensors, name), layers=set(wanted.values()))
        for key, layer in wanted.items():
            assert worst(found[layer], tensors[key]) < 2e-5, key


@torch.inference_mode()
def check_steps(model: AvHubert, tensors: dict[str, Tensor]) -> None:
    steps: dict[str, tuple[nn.Module, bool]] = {
        "mid.resnet": (model.feature_extractor_video.resnet, True),
        "mid.video_proj": (model.feature_extractor_video.proj, True),
        "mid.audio_proj": (model.feature_extractor_audio.proj, True),
        "mid.fused_ln": (model.layer_norm, False),
        "mid.post_extract": (model.post_extract_proj, False),
        "mid.pos_conv": (model.encoder.pos_conv, False),
    }
    seen: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda module, given, out, name=name: seen.__setitem__(name, out))
        for name, (module, _) in steps.items()
    ]
    model(*streams(tensors, "both"))
    for hook in hooks:
        hook.remove()
    wanted = [key for key in tensors if key.startswith("mid.")]
    assert wanted
    for key in wanted:
        found = seen[key].transpose(1, 2) if steps[key][1] else seen[key]
        assert worst(found, tensors[key]) < 2e-5, key


def test_every_output_is_the_references(golden: tuple[Case, AvHubert, dict[str, Tensor]]) -> None:
    check_outputs(*golden[1:])


def test_every_step_on_the_way_is_the_references(golden: tuple[Case, AvHubert, dict[str, Tensor]]) -> None:
    check_steps(*golden[1:])


@pytest.mark.parametrize("case", [case for case in cases() if case.name in BIG], ids=label)
def test_every_output_and_step_of_a_big_model_is_the_references(case: Case) -> None:
    model, tensors = case.model(), case.tensors()
    check_outputs(model, tensors)
    check_steps(model, tensors)


@torch.inference_mode()
def test_all_zero_sound_shows_the_right_epsilon(golden: tuple[Case, AvHubert, dict[str, Tensor]]) -> None:
    case, model, tensors = golden
    if case.seeded:
        assert "out.audio.zeros" not in tensors
        return
    silence = torch.zeros_like(tensors["in.audio"]).transpose(1, 2)
    assert worst(model(silence, None)[None], tensors["out.audio.zeros"]) < 2e-5


@torch.inference_mode()
def test_a_padded_batch_gives_each_clip_what_it_gives_alone(golden: tuple[Case, AvHubert, dict[str, Tensor]]) -> None:
    case, model, tensors = golden
    if case.seeded:
        assert "out.batch.both" not in tensors
        return
    long, short = case.facts["batch_lengths"]
    audio, video = streams(tensors, "both")
    assert audio is not None and video is not None
    audio = torch.cat([audio, nn.functional.pad(tensors["in.audio2"].transpose(1, 2), (0, 0, 0, long - short))])
    video = torch.cat([video, nn.functional.pad(tensors["in.video2"][:, 0], (0, 0, 0, 0, 0, long - short))])
    padding = torch.arange(long)[None] >= torch.tensor([[long], [short]])
    for name, heard, seen in (("both", audio, video), ("audio", audio, None), ("video", None, video)):
        rows = model(heard, seen, padding=padding)[None]
        wanted = tensors[f"out.batch.{name}"]
        assert worst(rows[0], wanted[0]) < 2e-5
        assert worst(rows[1, :short], wanted[1, :short]) < 2e-5
        alone = model(None if heard is None else heard[1:, :short], None if seen is None else seen[1:, :short])[None]
        assert worst(rows[1:, :short], alone) < 2e-5


def test_seeded_weights_are_those_of_the_recipe() -> None:
    for case in cases():
        for key, facts in case.facts.get("weight_fingerprints", {}).items():
            tensor = drawn(key, tuple(facts["shape"]), case.architecture().width, case.facts["weight_seed"])
            assert tensor.flatten()[:3].tolist() == pytest.approx(facts["first"], abs=1e-7)
            assert float(tensor.double().mean()) == pytest.approx(facts["mean"], abs=1e-7)


@pytest.mark.parametrize(
    ("size", "width", "layers", "parameters"), [("base", 768, 12, 102_620_288), ("large", 1024, 24, 324_622_976)]
)
def test_names_and_shapes_are_those_of_the_real_files(size: str, width: int, layers: int, parameters: int) -> None:
    architecture = Architecture(width=width, layers=layers, ffn=4 * width, heads=width // 64)
    shapes = official_shapes(architecture)
    trained = (shape for key, shape in shapes.items() if "running_" not in key)
    assert sum(int(np.prod(shape)) for shape in trained) == parameters
    for kind in ("pretrained", "finetuned"):
        manifest = json.loads((HERE / "avhubert" / f"manifest_{size}_{kind}.json").read_text())
        with torch.device("meta"):
            whole = {key: torch.empty(shape, dtype=getattr(torch, dtype)) for key, (shape, dtype) in manifest.items()}
        found = encoder_tensors(whole, kind)
        assert {key: tuple(tensor.shape) for key, tensor in found.items()} == shapes
        assert architecture_of(found, architecture.heads, True, kind) == architecture


@pytest.mark.parametrize(
    "key",
    ["feature_extractor_video.resnet.trunk.layer3.1.relu2.weight", "encoder.pos_conv.0.weight_g", "layer_norm.bias"],
)
def test_a_missing_tensor_is_an_error_that_names_it(key: str) -> None:
    tensors = random_tensors(TINY, 0)
    del tensors[key]
    with pytest.raises(WeightsError, match=re.escape(key)):
        check_tensors(tensors, TINY, "a.pt")


def test_an_unknown_or_misshapen_tensor_is_an_error_that_names_it() -> None:
    tensors = random_tensors(TINY, 0)
    with pytest.raises(WeightsError, match=r"encoder\.layers\.2\.fc1\.bias is not known"):
        check_tensors(tensors | {"encoder.layers.2.fc1.bias": torch.zeros(128)}, TINY, "a.pt")
    with pytest.raises(WeightsError, match=r"weight_g has shape \[64, 1, 1\], not \[1, 1, 128\]"):
        check_tensors(tensors | {"encoder.pos_conv.0.weight_g": torch.zeros(64, 1, 1)}, TINY, "a.pt")


def test_prefixes_come_off_at_the_start_only_and_the_reader_above_is_left_out() -> None:
    bare = random_tensors(TINY, 0)
    extra = {name + "x": torch.zeros(1) for name in NOT_NEEDED}
    for prefix, above in (("encoder.w2v_model.", "decoder.a"), ("w2v_encoder.w2v_model.", "w2v_encoder.proj.weight")):
        state = {prefix + key: tensor for key, tensor in (bare | extra).items()} | {above: torch.zeros(1)}
        assert encoder_tensors(state, "a.pt").keys() == bare.keys()
        with pytest.raises(WeightsError, match="strange is"):
            encoder_tensors(state | {"strange": torch.zeros(1)}, "a.pt")
    assert encoder_tensors(bare, "a.pt").keys() == bare.keys()


def test_half_precision_files_are_computed_in_single() -> None:
    halves = {key: tensor.half() for key, tensor in random_tensors(TINY, 0).items()}
    assert {tensor.dtype for tensor in encoder_tensors(halves, "a.pt").values()} == {torch.float32}


def test_random_weights_follow_the_references_rules_and_the_seed() -> None:
    one, same, other = (random_tensors(TINY, seed) for seed in (3, 3, 4))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["encoder.layers.1.fc2.weight"], other["encoder.layers.1.fc2.weight"])
    video = "feature_extractor_video"
    assert one["encoder.layers.0.fc1.weight"].std() == pytest.approx(0.02, rel=0.05)
    assert one["encoder.layers.0.self_attn.q_proj.bias"].abs().max() == 0
    assert one[f"{video}.resnet.trunk.layer4.1.conv2.weight"].std() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)
    assert one[f"{video}.resnet.trunk.layer4.1.relu2.weight"].unique().tolist() == [0.25]
    assert one["encoder.pos_conv.0.weight_v"].std() == pytest.approx((4 / (128 * 64)) ** 0.5, rel=0.05)
    assert one["post_extract_proj.weight"].abs().max() == pytest.approx(128**-0.5, rel=0.01)
    assert one["post_extract_proj.bias"].abs().max() == pytest.approx(128**-0.5, rel=0.1)
    assert one[f"{video}.proj.weight"].abs().max() == pytest.approx(64**-0.5, rel=0.01)
    assert one[f"{video}.resnet.frontend3D.0.weight"].abs().max() == pytest.approx(245**-0.5, rel=0.01)
    for key, tensor in one.items():
        if key.endswith(("norm.weight", "running_var")) or (".bn" in key and key.endswith("weight")):
            assert tensor.eq(1).all(), key
        if key.endswith(("norm.bias", "running_mean")) or ".downsample.1.bias" in key:
            assert tensor.eq(0).all(), key
