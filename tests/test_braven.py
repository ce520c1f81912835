"""BRAVEn against tensors that the reference made, and on what its files may hold."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reader_goldens import SHARED, Case, cases, check_pictures, check_steps, encode, narrow, preprocessing, worst
from safetensors.torch import load_file, save_file
from torch import Tensor

from avfeat.encoders import braven, build_encoder, official, resolve
from avfeat.encoders.base import FeatureName
from avfeat.encoders.branches import BranchEncoder
from avfeat.encoders.braven import loading
from avfeat.encoders.braven.loading import branch_shapes, encoder_tensors, network_of
from avfeat.encoders.braven.published import CARDS, SIZES
from avfeat.encoders.official import fresh_tensors, read_state, sizes_of
from avfeat.encoders.readers import Sizes
from avfeat.errors import ClipError, TooShortError, WeightsError

TINY = Sizes(width=32, layers=2, ffn=48, heads=4, resnet_width=8)


def network(case: Case) -> Any:
    return network_of(encoder_tensors(case.needed(), case.name), case.name)


def encoder_of(branch: Any, stream: str) -> BranchEncoder:
    width = branch.after_norm.normalized_shape[0]
    card = narrow(CARDS["braven-large"], {stream: width}, len(branch.encoders))
    return BranchEncoder(card, (FeatureName("braven-large", stream),), {stream: branch}, {})


def tiny_state(modality: Any, seed: int = 0) -> dict[str, Tensor]:
    """Return a narrow network's tensors under their bare official names."""
    return fresh_tensors(branch_shapes(modality, TINY), seed, modality)


def fine_tuned(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"encoder.{key}": each for key, each in state.items()} | {
        "decoder.embed.0.weight": torch.zeros(3, 32),
        "ctc.ctc_lo.bias": torch.zeros(3),
        "encoder.encoders.0.norm_ff.num_batches_tracked": torch.tensor(5),
    }


@pytest.mark.parametrize("case", cases("braven"))
@torch.inference_mode()
def test_every_step_is_the_references(case: Case) -> None:
    given = case.io["input/model_input"]
    wanted = {key.removeprefix("output/"): each for key, each in case.io.items() if key.startswith("output/")}
    assert check_steps(network(case), given if case.is_video else given[..., 0], wanted) >= 1


@pytest.mark.parametrize("case", cases("braven"))
def test_raw_sound_and_pictures_give_the_references_rows(case: Case) -> None:
    stream = "v" if case.is_video else "a"
    mouths = case.io["input/roi_rgb_uint8"].numpy() if case.is_video else None
    sound = None if case.is_video else case.io["input/wav_raw"].numpy()
    rows = encode(encoder_of(network(case), stream), mouths, sound, stream, block=5)[stream]
    assert not isinstance(rows, ClipError)
    assert worst(rows[None], case.io["output/feature"]) < 5e-5


@pytest.mark.parametrize("case", cases("braven"))
@torch.inference_mode()
def test_a_padded_batch_is_the_references_and_each_clip_alone_too(case: Case) -> None:
    if "batch_lengths" not in case.facts:
        assert "output/batch_feature" not in case.io
        return
    branch = network(case)
    given = case.io["input/batch_input"]
    given = given if case.is_video else given[..., 0]
    lengths = case.io["input/batch_lengths"]
    padding = torch.arange(int(lengths.max()))[None] >= lengths[:, None]
    rows = branch.transform(branch.frontend(given), padding=padding)[None]
    for place, length in enumerate(lengths.tolist()):
        wanted = case.io["output/batch_feature"][place, :length]
        assert worst(rows[place, :length], wanted) < 5e-5
        samples = length if case.is_video else 640 * length
        alone = branch.transform(branch.frontend(given[place : place + 1, :samples]))[None]
        assert worst(alone, case.io[f"output/batch_item{place}_alone_feature"]) < 5e-5
        # Padded sound leaks into the rows of a shorter clip, which is why clips run alone; pictures do not.
        leaks = not case.is_video and length < int(lengths.max())
        assert (worst(alone[0], wanted) > 1e-3) == leaks


@pytest.mark.parametrize("path", preprocessing("braven"))
def test_pictures_are_prepared_as_the_reference_does(path: Path) -> None:
    check_pictures(load_file(path))


def test_sound_is_read_as_it_is() -> None:
    encoder = encoder_of(network_of(tiny_state("audio"), "tiny"), "a")
    sound = np.random.default_rng(0).standard_normal(640 * 4 + 100).astype(np.float32) * 0.1
    quiet, loud = (encode(encoder, None, part * sound, "a")["a"] for part in (1, 2))
    assert np.abs(quiet - loud).max() > 1e-2
    beyond = np.concatenate([sound[: 640 * 4], np.ones(639, np.float32)])
    assert np.array_equal(encode(encoder, None, beyond, "a")["a"], quiet)
    assert isinstance(encode(encoder, None, sound[:639], "a")["a"], TooShortError)


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_fine_tuned_and_self_supervised_files_give_the_same_tensors(modality: str, tmp_path: Path) -> None:
    state = tiny_state(modality)
    for name, content in (
        ("bare.pth", state),
        ("tuned.pth", fine_tuned(state)),
        ("last.ckpt", {"state_dict": {f"model.{key}": each for key, each in fine_tuned(state).items()}}),
    ):
        torch.save(content, tmp_path / name)
        found = encoder_tensors(read_state(tmp_path / name), name)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], each) for key, each in state.items())
        assert sizes_of(found, name) == TINY


@pytest.mark.parametrize(
    "key", ["encoders.1.norm_ff.running_mean", "encoders.0.gamma_ff", "embed.0.weight", "frontend.trunk.bn1.bias"]
)
def test_a_missing_tensor_is_an_error_that_names_it(key: str) -> None:
    state = tiny_state("audio")
    del state[key]
    with pytest.raises(WeightsError, match=re.escape(key)):
        network_of(state, "a.pth")


def test_files_of_something_else_are_refused() -> None:
    state = tiny_state("audio")
    with pytest.raises(WeightsError, match=r"strange is not known"):
        encoder_tensors(official.needed(fine_tuned(state) | {"strange": torch.zeros(1)}), "a.pth")
    with pytest.raises(WeightsError, match=r"encoders\.0\.norm_final\.bias is not known"):
        network_of(state | {"encoders.0.norm_final.bias": torch.zeros(32)}, "a.pth")
    with pytest.raises(WeightsError, match="so it reads nothing"):
        network_of({"embed.0.weight": torch.zeros(1)}, "a.pth")


def test_a_folder_is_sorted_out_by_what_its_files_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVFEAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "SIZES", TINY)
    torch.save(fine_tuned(tiny_state("video")), tmp_path / "asr.pth")  # the name says something else
    save_file(tiny_state("audio"), tmp_path / "vsr.safetensors")
    _, origin = loading.networks(["a", "v"], tmp_path, None)
    assert {stream: each["file"] for stream, each in origin["weights"].items()} == {
        "a": "vsr.safetensors",
        "v": "asr.pth",
    }
    with pytest.raises(WeightsError, match=r"reads video; braven-large\.a reads audio"):
        loading.networks(["a"], tmp_path / "asr.pth", None)


def test_without_files_or_with_others_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVFEAT_CACHE", str(tmp_path))
    assert "asr_prelrs3vox2avs_large" in braven.missing("braven-large")
    with pytest.raises(WeightsError, match=r"\.v: vsr_prelrs3vox2avs_large_.*--weights"):
        build_encoder(*resolve(["braven-large.v"]))
    path = tmp_path / "tiny.pth"
    torch.save(tiny_state("audio"), path)
    with pytest.raises(WeightsError, match=r"width 32, 2 blocks.*braven-large\.a has width 1024, 24 blocks"):
        build_encoder(*resolve(["braven-large.a"], weights=path))


@pytest.mark.parametrize("name", ["large_audio", "large_video", "base_audio", "base_video"])
@pytest.mark.shared
def test_names_and_shapes_are_those_of_the_real_files(name: str) -> None:
    manifest = json.loads((SHARED / "braven" / f"manifest_braven_{name}.json").read_text())
    with torch.device("meta"):
        whole = {key: torch.empty(shape) for key, shape in manifest["shapes"].items()}
    found = encoder_tensors(official.needed(whole), name)
    sizes = sizes_of(found, name)
    modality: Any = name.split("_")[1]
    assert {key: tuple(each.shape) for key, each in found.items()} == branch_shapes(modality, sizes)
    assert sizes == SIZES or name.startswith("base")
    learned = [each for key, each in found.items() if "running_" not in key]
    assert sum(each.numel() for each in learned) == manifest["n_params_feature_path"]


def test_the_published_sizes_have_the_published_number_of_parameters() -> None:
    def count(modality: Any) -> int:
        return sum(
            int(np.prod(shape)) for key, shape in branch_shapes(modality, SIZES).items() if "running_" not in key
        )

    assert (count("audio"), count("video")) == (331_949_440, 339_283_648)
