"""Official AV-HuBERT files, whatever trainer wrote them: the same encoder comes out, once converted and ever after."""

import argparse
import collections
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from avfeat.encoders.avhubert.initial import random_tensors
from avfeat.encoders.avhubert.loading import convert, find_weights, read_converted, read_official
from avfeat.encoders.avhubert.published import PUBLISHED, Architecture, Published
from avfeat.encoders.avhubert.state import model_of
from avfeat.encoders.base import WeightFile
from avfeat.errors import WeightsError
from tests.golden import HERE, golden_architecture, more_folders

TINY = Architecture(width=64, layers=2, ffn=128, heads=4, resnet_width=8)
ENTRY = Published("avhubert-tiny", TINY, WeightFile("tiny.pt", "https://example.org/tiny.pt"), "tiny", True)
SETTINGS = {
    "_name": "av_hubert",
    "encoder_layers": 2,
    "encoder_embed_dim": 64,
    "encoder_ffn_embed_dim": 128,
    "encoder_attention_heads": 4,
    "layer_norm_first": True,
    "modality_fuse": "concat",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("AVFEAT_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return random_tensors(TINY, 5)


def save(path: Path, model: dict[str, Tensor], **more: Any) -> Path:
    extra = {"mask_emb": torch.zeros(104), "label_embs_concat": torch.zeros(9, 16)}
    prefix = next(iter(model)).split("feature_extractor")[0]
    state = collections.OrderedDict(model | {prefix + key: tensor for key, tensor in extra.items()})
    torch.save({"args": None, "cfg": None, "model": state, "last_optimizer_state": {}} | more, path)
    return path


def files() -> Iterator[Path]:
    """Checkpoints that the reference's trainer wrote: one of ours, and all below AVFEAT_GOLDEN and in ../shared."""
    yield HERE / "avhubert" / "tiny_finetuned.pt"
    for folder in more_folders("tiny_checkpoints_io.safetensors"):
        yield from sorted((*folder.glob("tiny_*.pt"), *folder.glob("variants/*.pt")))


def check(path: Path) -> None:
    folder = path.parent.parent if path.parent.name == "variants" else path.parent
    facts = json.loads((folder / "model_cases.json").read_text())["cases"]["tiny_prenorm"]
    promised = golden_architecture(facts)
    weights = read_official(path, promised)
    assert weights.architecture == replace(promised, norm_first="postnorm" not in path.stem)
    model = model_of(weights.tensors, weights.architecture)
    name, case = ("", "tiny_checkpoints_io")
    if "pretrained" in path.stem:
        name, case = "pretrained.", "tiny_checkpoints_io"
    if "postnorm" in path.stem:
        name, case = "", "tiny_postnorm_io"
    io = load_file(folder / f"{case}.safetensors")
    audio, video = io["in.audio"].transpose(1, 2), io["in.video"][:, 0]
    with torch.inference_mode():
        for stream, given in {"both": (audio, video), "audio": (audio, None), "video": (None, video)}.items():
            found = model(*given)[None]
            limit = 4e-3 if "fp16" in path.stem else 1e-5
            assert (found - io[f"{name}out.{stream}"]).abs().max() < limit, stream


@pytest.mark.parametrize("path", list(files()), ids=lambda path: path.stem)
def test_a_file_of_the_reference_gives_the_references_features(path: Path) -> None:
    check(path)


@pytest.mark.shared
def test_all_ten_variants_of_the_golden_set_give_the_references_features(shared: Path) -> None:
    variants = sorted((shared / "golden" / "avhubert" / "variants").glob("*.pt"))
    assert len(variants) == 10
    for path in variants:
        check(path)


def prefixed(tensors: dict[str, Tensor], prefix: str, above: str) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in tensors.items()} | {above: torch.zeros(2)}


def test_every_layout_leads_to_the_same_encoder(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    flat = argparse.Namespace(arch="av_hubert", **SETTINGS)
    decoder = {"_name": "av_hubert_seq2seq", "decoder_layers": 6, "w2v_path": "/a/path"}
    seq2seq = prefixed(tensors, "encoder.w2v_model.", "decoder.embed")
    ctc = prefixed(tensors, "w2v_encoder.w2v_model.", "w2v_encoder.proj.weight")
    layouts = [
        save(tmp_path / "pretrained.pt", tensors, cfg={"model": SETTINGS}),
        save(tmp_path / "legacy.pt", tensors, args=flat),
        save(tmp_path / "finetuned.pt", seq2seq, cfg={"model": decoder | {"w2v_args": {"model": SETTINGS}}}),
        save(tmp_path / "flat_inside.pt", seq2seq, cfg={"model": decoder | {"w2v_args": flat}}),
        save(tmp_path / "ctc.pt", ctc, cfg={"model": {"_name": "av_hubert_ctc", "w2v_args": {"model": SETTINGS}}}),
        save(tmp_path / "raw.pt", seq2seq, cfg={"model": decoder}),
        save(tmp_path / "bare.pt", tensors),
    ]
    for path in layouts:
        weights = read_official(path, TINY)
        assert weights.architecture == TINY, path.name
        assert weights.tensors.keys() == tensors.keys(), path.name
        assert all(torch.equal(weights.tensors[key], tensors[key]) for key in tensors)


def test_what_the_configuration_leaves_out_has_the_references_default(
    tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    less = {key: value for key, value in SETTINGS.items() if key != "layer_norm_first"}
    assert not read_official(save(tmp_path / "a.pt", tensors, cfg={"model": less})).architecture.norm_first
    base = Architecture(width=768, layers=12, ffn=32, heads=12, resnet_width=8)
    path = save(tmp_path / "b.pt", random_tensors(base, 0), cfg={"model": {"encoder_ffn_embed_dim": 32}})
    assert read_official(path).architecture == replace(base, norm_first=False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"modality_fuse": "add"}, "modality_fuse 'add'; only 'concat'"),
        ({"sub_encoder_layers": 2}, "sub_encoder_layers 2; only 0"),
        ({"resnet_relu_type": "relu"}, "resnet_relu_type 'relu'; only 'prelu'"),
        ({"encoder_layers": 3}, "says encoder_layers 3 but its tensors show 2"),
        ({"encoder_attention_heads": 5}, "fits neither 5 heads"),
        ({"encoder_attention_heads": 0}, "fits neither 0 heads"),
        ({"layer_norm_first": "yes"}, "cannot be understood"),
    ],
)
def test_a_configuration_that_cannot_be_honoured_is_refused(
    tmp_path: Path, tensors: dict[str, Tensor], change: dict[str, Any], reason: str
) -> None:
    path = save(tmp_path / "a.pt", tensors, cfg={"model": SETTINGS | change})
    with pytest.raises(WeightsError, match=f"a.pt.*{re.escape(reason)}"):
        read_official(path)


def test_heads_are_never_guessed(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    path = save(tmp_path / "a.pt", tensors)
    with pytest.raises(WeightsError, match="does not say how many attention heads"):
        read_official(path)
    with pytest.raises(WeightsError, match="width of 64 with 2 blocks is not the 1024 with 24"):
        read_official(path, PUBLISHED["avhubert-large"].architecture)


def test_a_missing_tensor_is_named_with_its_file(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    key = "feature_extractor_video.resnet.frontend3D.2.weight"
    path = save(tmp_path / "a.pt", {name: tensor for name, tensor in tensors.items() if name != key})
    with pytest.raises(WeightsError, match=rf"a\.pt: {re.escape(key)} is missing"):
        read_official(path, TINY)


def test_another_trainers_file_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(1)}}, tmp_path / "a.ckpt")
    with pytest.raises(WeightsError, match="no table of tensors called 'model'"):
        read_official(tmp_path / "a.ckpt")
    save(tmp_path / "b.pt", {"feature_extractor.conv": torch.ones(1)})
    with pytest.raises(WeightsError, match=r"encoder\.layer_norm\.weight with 1 axes is missing"):
        read_official(tmp_path / "b.pt", TINY)


def test_what_is_converted_once_is_read_without_the_official_file(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    path = save(tmp_path / "tiny.pt", tensors, cfg={"model": SETTINGS | {"layer_norm_first": False}})
    target = tmp_path / "out" / "tiny.safetensors"
    made = convert(path, target, None)
    path.unlink()
    again = read_converted(target)
    assert again.architecture == replace(TINY, norm_first=False)
    assert again.origin == made.origin and made.origin["file"] == "tiny.pt"
    assert all(torch.equal(again.tensors[key], tensors[key]) for key in tensors)
    facts = json.loads(target.with_suffix(".json").read_text())
    assert "non-commercial research only" in facts["licence_note"]
    assert sorted(file.name for file in target.parent.iterdir()) == ["tiny.json", "tiny.safetensors"]


def test_converted_tensors_that_changed_or_lost_their_facts_are_refused(
    tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    target = tmp_path / "tiny.safetensors"
    convert(save(tmp_path / "tiny.pt", tensors), target, ENTRY)
    save_file(tensors | {"layer_norm.bias": torch.ones(128)}, target)
    with pytest.raises(WeightsError, match="has changed"):
        read_converted(target)
    target.with_suffix(".json").unlink()
    with pytest.raises(WeightsError, match=r"convert the official file again"):
        read_converted(target)


def test_the_official_file_in_the_cache_is_converted_at_first_use(tensors: dict[str, Tensor]) -> None:
    ENTRY.official.parent.mkdir(parents=True)
    save(ENTRY.official, tensors)
    first = find_weights(ENTRY, None, None)
    assert ENTRY.converted.is_file()
    ENTRY.official.unlink()
    second = find_weights(ENTRY, None, None)
    assert first.origin == second.origin
    assert all(torch.equal(second.tensors[key], tensors[key]) for key in tensors)


def test_without_weights_the_message_says_which_file_to_put_where(cache: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        find_weights(PUBLISHED["avhubert-large"], None, None)
    sentence = str(caught.value)
    assert "self_large_vox_433h.pt" in sentence and str(cache / "avhubert") in sentence
    assert "avfeat weights get avhubert-large" in sentence


def test_a_file_of_another_size_is_refused_under_this_name(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    path = save(tmp_path / "tiny.pt", tensors, cfg={"model": SETTINGS})
    with pytest.raises(WeightsError, match="width 64 with 2 blocks; avhubert-base has width 768 and 12 blocks"):
        find_weights(PUBLISHED["avhubert-base"], path, None)


def test_a_file_with_the_right_name_and_another_hash_is_refused(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    entry = replace(ENTRY, file=replace(ENTRY.file, sha256="0" * 64))
    path = save(tmp_path / "tiny.pt", tensors)
    with pytest.raises(WeightsError, match=rf"not the {'0' * 64} of avhubert-tiny"):
        convert(path, tmp_path / "tiny.safetensors", entry)
    assert not (tmp_path / "tiny.safetensors").exists()


def test_an_unpublished_hash_is_recorded_at_first_use_and_holds(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    convert(save(tmp_path / "tiny.pt", tensors), ENTRY.converted, ENTRY)
    other = save(tmp_path / "tiny.pt", tensors | {"layer_norm.bias": torch.ones(128)})
    with pytest.raises(WeightsError, match="has changed"):
        convert(other, ENTRY.converted, ENTRY)


def test_a_seed_needs_no_file() -> None:
    weights = find_weights(ENTRY, None, 5)
    assert weights.origin == {"seed": 5}
    assert weights.architecture == TINY
