"""Auto-AVSR against tensors that the reference made, and on what its files may hold."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from reader_goldens import HERE, SHARED, Case, cases, check_pictures, check_steps, encode, narrow, preprocessing, worst
from safetensors.torch import load_file, save_file
from torch import Tensor

from avfeat.encoders import auto_avsr, blocks, build_encoder, card_of, lips, official, relative, resolve
from avfeat.encoders.auto_avsr import loading
from avfeat.encoders.auto_avsr.encoder import AutoAvsrEncoder, unit_variance
from avfeat.encoders.auto_avsr.published import CARDS, SIZES
from avfeat.encoders.auto_avsr.state import Parts, audio_visual_of, branch_of, branch_shapes, fusion_shapes, parts_of
from avfeat.encoders.base import FeatureName, Rows
from avfeat.encoders.lips import normalised
from avfeat.encoders.official import fresh_tensors, read_state
from avfeat.encoders.readers import Sizes
from avfeat.encoders.relative import RelativeAttention, position_table
from avfeat.errors import ClipError, EncoderError, LengthError, TooShortError, WeightsError
from avfeat.views import MOUTH_STEADY

TINY = Sizes(width=32, layers=2, ffn=48, heads=4, kernel=7, resnet_width=8)
AV = Case(HERE / "auto_avsr", "v1_audiovisual")


def encoder_of(parts: Parts, streams: Sequence[str], **settings: str) -> AutoAvsrEncoder:
    """Return an encoder over a narrow network; an audio-visual one gives all three streams."""
    whole = audio_visual_of(parts) if parts.fusion else None
    networks: dict[str, Any] = {}
    for stream in streams:
        if whole is not None:
            networks[stream] = {"a": whole.aux_encoder, "v": whole.encoder, "av": whole}[stream]
        else:
            networks[stream] = branch_of(parts, "audio" if stream == "a" else "video")
    widths = {stream: next(iter(parts.sizes.values())).width for stream in streams}
    card = narrow(CARDS["auto-avsr"], widths, next(iter(parts.sizes.values())).layers)
    wanted = tuple(FeatureName("auto-avsr", stream) for stream in streams)
    return AutoAvsrEncoder(card, wanted, networks, {"short_stream": "error"} | settings, {})


def tiny_state(layout: str, modality: str, seed: int = 0) -> dict[str, Tensor]:
    """Return the official tensors of a narrow network."""
    tensors = {}
    if modality == "audiovisual":
        tensors |= {
            f"encoder.{key}": each for key, each in fresh_tensors(branch_shapes("video", TINY), seed, "v").items()
        }
        tensors |= {
            f"aux_encoder.{key}": each for key, each in fresh_tensors(branch_shapes("audio", TINY), seed, "a").items()
        }
        return tensors | {
            f"fusion.{key}": each for key, each in fresh_tensors(fusion_shapes(TINY, TINY, 80), seed, "f").items()
        }
    bare = fresh_tensors(branch_shapes("video" if modality == "video" else "audio", TINY), seed, modality)
    if layout == "v1":
        return {f"encoder.{key}": each for key, each in bare.items()}
    for key, each in bare.items():
        place = key if key.startswith("frontend.") else f"encoder.{key}"
        tensors[place.replace("encoder.embed.0.", "proj_encoder.")] = each
    return tensors


@pytest.fixture(scope="module")
def both() -> AutoAvsrEncoder:
    return encoder_of(parts_of(AV.needed(), "golden"), ["a", "v", "av"])


@pytest.mark.parametrize("case", cases("auto_avsr"))
@torch.inference_mode()
def test_every_step_is_the_references(case: Case) -> None:
    parts = parts_of(case.needed(), case.name)
    assert parts.layout == case.facts["key_layout"].split()[0]
    if case.facts["modality"] == "audiovisual":
        network = audio_visual_of(parts)
        outputs = {}
        for modality, branch in (("video", network.encoder), ("audio", network.aux_encoder)):
            prefix = f"output/{modality}_"
            wanted = {key.removeprefix(prefix): each for key, each in case.io.items() if key.startswith(prefix)}
            if modality == "video":
                given = torch.from_numpy(normalised(case.io["input/roi_rgb_uint8"].numpy()))[None]
                if "input/model_video" in case.io:
                    assert worst(given[:, :, None], case.io["input/model_video"]) < 1e-5
            else:
                given = case.io["input/model_audio"][..., 0]
            assert check_steps(branch, given, wanted) >= 1
            outputs[modality] = branch.transform(branch.frontend(given))[None]
        assert worst(network.fusion(outputs["video"], outputs["audio"]), case.io["output/feature"]) < 5e-5
        return
    branch = branch_of(parts, case.facts["modality"])
    given = case.io["input/model_input"][:, :, 0]
    wanted = {key.removeprefix("output/"): each for key, each in case.io.items() if key.startswith("output/")}
    assert check_steps(branch, given, wanted) >= 1


@pytest.mark.parametrize("case", cases("auto_avsr"))
def test_raw_sound_and_pictures_give_the_references_rows(case: Case) -> None:
    pictures, sound = case.io.get("input/roi_rgb_uint8"), case.io.get("input/wav_raw")
    if pictures is None and sound is None:
        return  # the same tensors as another case, in the other layout
    stream = {"video": "v", "audio": "a", "audiovisual": "av"}[case.facts["modality"]]
    encoder = encoder_of(parts_of(case.needed(), case.name), [stream])
    mouths, wave = (None if each is None else each.numpy() for each in (pictures, sound))
    rows = encode(encoder, mouths, wave, stream, block=5)[stream]
    assert not isinstance(rows, ClipError)
    assert worst(rows[None], case.io["output/feature"]) < 5e-5


@pytest.mark.parametrize("case", cases("auto_avsr"))
@torch.inference_mode()
def test_a_padded_batch_is_the_references_and_each_clip_alone_too(case: Case) -> None:
    if "batch_lengths" not in case.facts:
        assert "output/batch_feature" not in case.io
        return
    branch = branch_of(parts_of(case.needed(), case.name), case.facts["modality"])
    given = case.io["input/batch_input"][:, :, 0]
    lengths = case.io["input/batch_lengths"]
    padding = torch.arange(int(lengths.max()))[None] >= lengths[:, None]
    rows = branch.transform(branch.frontend(given), padding=padding)[None]
    for place, length in enumerate(lengths.tolist()):
        assert worst(rows[place, :length], case.io["output/batch_feature"][place, :length]) < 5e-5
        own = given[place : place + 1, : length if case.is_video else 640 * length]
        alone = branch.transform(branch.frontend(own))[None]
        assert worst(alone, case.io[f"output/batch_item{place}_alone_feature"]) < 5e-5


@pytest.mark.parametrize("path", preprocessing("auto_avsr"))
def test_pictures_and_sound_are_prepared_as_the_reference_does(path: Path) -> None:
    io = load_file(path)
    check_pictures(io)
    assert worst(unit_variance(io["input/wav_raw"].numpy())[:, None], io["output/audio"]) < 1e-6


@pytest.mark.parametrize(
    ("height", "width", "top", "left"), [(96, 96, 4, 4), (161, 120, 36, 16), (163, 89, 38, 0), (88, 88, 0, 0)]
)
def test_the_middle_is_rounded_half_to_even(height: int, width: int, top: int, left: int) -> None:
    pictures = np.zeros((1, height, width, 3), np.uint8)
    pictures[0, top, left] = 255
    found = normalised(pictures)
    assert found.shape == (1, 88, 88) and np.unravel_index(found[0].argmax(), (88, 88)) == (0, 0)
    assert found.max() == pytest.approx((0.9999 - 0.421) / 0.165, abs=1e-6)


def test_a_small_picture_is_framed_in_black_with_the_odd_pixel_below_and_right() -> None:
    found = normalised(np.full((1, 85, 88, 3), 255, np.uint8))[0]
    black = np.float32(-0.421 / 0.165)
    assert (found[:1] == black).all() and (found[86:] == black).all() and (found[1:86] > 3).all()


def test_silence_stays_finite() -> None:
    assert not unit_variance(np.zeros(700, np.float32)).any()


def test_the_three_streams_of_one_clip_do_not_depend_on_each_other(both: AutoAvsrEncoder) -> None:
    mouths, sound = clip(3)
    together = encode(both, mouths, sound, "a", "v", "av", "a@1", "v@2")
    assert {rows.shape for rows in together.values() if not isinstance(rows, ClipError)} == {(3, 32)}
    for stream in together:
        views = (None if stream[0] == "a" and stream != "av" else mouths), (sound if stream[0] == "a" else None)
        assert np.array_equal(encode(both, *views, stream)[stream], together[stream]), stream
    assert not np.array_equal(together["a"], together["a@1"])


def test_av_sound_is_cut_or_filled_to_the_pictures_before_it_is_normalised(both: AutoAvsrEncoder) -> None:
    mouths, sound = clip(2)
    for samples in (640 * 2 + 639, 640 * 1 + 1):
        given = np.resize(sound, samples)
        fitting = np.pad(given[: 640 * 2], (0, max(640 * 2 - samples, 0)))
        rows = encode(both, mouths, given, "av")["av"]
        assert np.array_equal(rows, encode(both, mouths, fitting, "av")["av"]) and len(rows) == 2


def test_streams_that_differ_by_more_than_a_frame_fail_together_only(both: AutoAvsrEncoder) -> None:
    mouths, sound = clip(5, 640 * 9)
    found = encode(both, mouths, sound, "a", "v", "av")
    assert len(found["a"]) == 9 and len(found["v"]) == 5
    assert isinstance(found["av"], LengthError) and "9 steps" in str(found["av"]) and "pictures 5" in str(found["av"])
    fitting = encoder_of(parts_of(AV.needed(), "golden"), ["av"], short_stream="fit")
    assert np.array_equal(
        encode(fitting, mouths, sound, "av")["av"], encode(both, mouths, sound[: 640 * 5], "av")["av"]
    )


def test_too_little_sound_or_no_picture_is_a_failed_stream(both: AutoAvsrEncoder) -> None:
    mouths, sound = clip(1)
    found = encode(both, mouths, sound[:639], "a", "v", "av")
    assert isinstance(found["a"], TooShortError) and len(found["v"]) == len(found["av"]) == 1
    found = encode(both, None, sound[:0], "a", "v", "av")
    assert all(isinstance(each, TooShortError) for each in found.values())
    assert isinstance(encode(both, mouths, sound[:0], "av")["av"], TooShortError)


@pytest.mark.parametrize(("frames", "sizes"), [(1, [1]), (2, [1]), (5, [1, 2]), (33, [32]), (35, [100])])
@torch.inference_mode()
def test_pictures_in_blocks_give_what_the_whole_clip_gives(
    both: AutoAvsrEncoder, frames: int, sizes: list[int]
) -> None:
    mouths, _ = clip(frames)
    branch: Any = both.networks["v"]
    whole = branch.transform(branch.frontend(torch.from_numpy(normalised(mouths))[None]))[None][0].numpy()
    for block in sizes:
        rows = encode(both, mouths, None, "v", block=block)["v"]
        assert np.abs(rows - whole).max() < 5e-6


@pytest.mark.parametrize("frames", [1, 2, 4, 5, 9, 12])
@torch.inference_mode()
def test_sound_in_pieces_gives_what_the_whole_gives(
    both: AutoAvsrEncoder, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    _, sound = clip(frames, 640 * frames + 300)
    whole = encode(both, None, sound, "a")["a"]
    for piece in (1, 4):
        monkeypatch.setattr(blocks, "PIECE_FRAMES", piece)
        assert np.abs(encode(both, None, sound, "a")["a"] - whole).max() < 5e-6


@pytest.mark.parametrize("queries", [1, 5, 16])
@torch.inference_mode()
def test_relative_attention_is_the_sum_over_pairs_that_it_says_it_is(
    monkeypatch: pytest.MonkeyPatch, queries: int
) -> None:
    monkeypatch.setattr(relative, "QUERIES", queries)
    torch.manual_seed(0)
    attention = RelativeAttention(12, 3)
    torch.nn.init.normal_(attention.pos_bias_u)
    torch.nn.init.normal_(attention.pos_bias_v)
    steps = torch.randn(1, 11, 12)
    q, k, v = (
        linear(steps)[0].view(11, 3, 4) for linear in (attention.linear_q, attention.linear_k, attention.linear_v)
    )
    p = attention.linear_pos(position_table(11, 12)).view(21, 3, 4)
    out = torch.zeros(11, 3, 4)
    for head in range(3):
        for i in range(11):
            u, w = attention.pos_bias_u[head], attention.pos_bias_v[head]
            scores = [(q[i, head] + u) @ k[j, head] + (q[i, head] + w) @ p[10 - (i - j), head] for j in range(11)]
            weights = torch.softmax(torch.stack(scores) / 2, 0)
            out[i, head] = sum(weights[j] * v[j, head] for j in range(11))
    assert (attention(steps, position_table(11, 12)) - attention.linear_out(out.flatten(1))).abs().max() < 1e-5


def test_the_position_table_holds_sines_and_cosines_of_offsets() -> None:
    table = position_table(4, 6)
    assert table.shape == (7, 6)
    for row, offset in enumerate((3, 2, 1, 0, -1, -2, -3)):
        for m in range(3):
            wave = offset * 10_000 ** (-2 * m / 6)
            assert table[row, 2 * m : 2 * m + 2].tolist() == pytest.approx([np.sin(wave), np.cos(wave)], abs=1e-6)


@pytest.mark.parametrize(
    ("layout", "modality"),
    [("main", "audio"), ("main", "video"), ("v1", "audio"), ("v1", "video"), ("v1", "audiovisual")],
)
def test_layout_and_modality_are_read_off_the_names(layout: str, modality: str, tmp_path: Path) -> None:
    state = tiny_state(layout, modality)
    counters = {
        f"{key.removesuffix('running_var')}num_batches_tracked": torch.tensor(3) for key in state if "var" in key
    }
    extra = {
        "ctc.ctc_lo.bias": torch.zeros(3),
        "decoder.output_layer.bias": torch.zeros(3),
        "encoder.x.pe": torch.zeros(1),
    }
    plain = tmp_path / "asr_trlrs3_base.pth"
    torch.save(state | counters | extra, plain)
    lightning = tmp_path / "last.ckpt"
    torch.save({"epoch": 3, "state_dict": {f"model.{key}": each for key, each in (state | extra).items()}}, lightning)
    for path in (plain, lightning):
        parts = parts_of(read_state(path), str(path))
        assert parts.layout == layout
        assert set(parts.branches) == ({"audio", "video"} if modality == "audiovisual" else {modality})
        assert set(parts.sizes.values()) == {TINY}


def test_both_layouts_of_the_same_tensors_give_the_same_network() -> None:
    main, v1 = (parts_of(tiny_state(layout, "audio"), layout) for layout in ("main", "v1"))
    assert main.branches["audio"].keys() == v1.branches["audio"].keys()
    assert all(torch.equal(main.branches["audio"][key], each) for key, each in v1.branches["audio"].items())


def test_older_names_are_read() -> None:
    state = tiny_state("v1", "audio")
    older = {
        key.replace("encoder.after_norm.", "encoder.norm.").replace("encoder.embed.", "encoder.input_layer."): each
        for key, each in state.items()
    }
    assert older.keys() != state.keys()
    assert parts_of(older, "a").branches["audio"].keys() == parts_of(state, "a").branches["audio"].keys()


@pytest.mark.parametrize(
    ("layout", "modality", "key"),
    [
        ("main", "audio", "encoder.encoders.1.self_attn.pos_bias_v"),
        ("main", "video", "frontend.trunk.layer2.0.downsample.1.running_mean"),
        ("v1", "video", "encoder.frontend.frontend3D.1.weight"),
        ("v1", "audio", "encoder.after_norm.weight"),
        ("v1", "audiovisual", "aux_encoder.encoders.0.conv_module.norm.running_var"),
        ("v1", "audiovisual", "fusion.bn1.bias"),
        ("v1", "audiovisual", "fusion.fc1.weight"),
        ("main", "audio", "proj_encoder.bias"),
    ],
)
def test_a_missing_tensor_is_an_error_that_names_it(layout: str, modality: str, key: str) -> None:
    state = tiny_state(layout, modality)
    del state[key]
    named = key.split(".", 1)[1] if not key.startswith(("frontend.", "proj_encoder.")) else key
    named = named.replace("proj_encoder.", "embed.0.")
    with pytest.raises(WeightsError, match=re.escape(named)):
        parts_of(state, "a.pth")


def test_files_that_are_something_else_are_refused(tmp_path: Path) -> None:
    state = tiny_state("v1", "audio")
    with pytest.raises(WeightsError, match=r"strange\.weight is not known"):
        parts_of(state | {"strange.weight": torch.zeros(1)}, "a.pth")
    with pytest.raises(WeightsError, match=r"encoders\.0\.gamma_mha is not known"):
        parts_of(state | {"encoder.encoders.0.gamma_mha": torch.zeros(32)}, "a.pth")
    with pytest.raises(WeightsError, match=r"neither proj_encoder\.weight nor"):
        parts_of({"frontend.trunk.conv1.weight": torch.zeros(8, 1, 80)}, "a.pth")
    words = tmp_path / "lrw.pth"
    torch.save({"model_state_dict": {"trunk.a": torch.zeros(1)}}, words)
    with pytest.raises(WeightsError, match="trained on words alone"):
        read_state(words)
    with pytest.raises(WeightsError, match="no flat table"):
        other = tmp_path / "other.pth"
        torch.save({"state_dict": [1]}, other)
        read_state(other)


def test_a_folder_is_sorted_out_by_what_its_files_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVFEAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "SIZES", TINY)
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.save(tiny_state("main", "video", 1), folder / "asr.pth")  # the name says something else
    save_file(tiny_state("v1", "audio", 2), folder / "vsr.safetensors")
    torch.save(tiny_state("v1", "audiovisual", 3), folder / "x.pth")
    _, origin = loading.networks(["a", "v", "av"], folder, None)
    assert {stream: each["file"] for stream, each in origin["weights"].items()} == {
        "a": "vsr.safetensors",
        "v": "asr.pth",
        "av": "x.pth",
    }
    assert [origin["weights"][stream]["layout"] for stream in ("a", "v", "av")] == ["v1", "main", "v1"]
    torch.save(tiny_state("main", "audio", 4), folder / "more.pth")
    with pytest.raises(WeightsError, match=r"reads audio; it holds more\.pth, vsr\.safetensors"):
        loading.networks(["a"], folder, None)
    alone, _ = loading.networks(["v", "av"], folder / "x.pth", None)
    assert alone["v"] is alone["av"].encoder
    with pytest.raises(WeightsError, match=r"reads video; auto-avsr\.a reads audio"):
        loading.networks(["a"], folder / "asr.pth", None)


def test_a_file_of_another_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVFEAT_CACHE", str(tmp_path))
    path = tmp_path / "tiny.pth"
    torch.save(tiny_state("v1", "audio"), path)
    with pytest.raises(WeightsError, match=r"width 32, 2 blocks.*auto-avsr\.a has width 768, 12 blocks"):
        build_encoder(*resolve(["auto-avsr.a"], weights=path))


def test_without_files_the_error_says_which_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVFEAT_CACHE", str(tmp_path))
    assert "asr_trlrs3vox2_base.pth" in auto_avsr.missing("auto-avsr")
    with pytest.raises(WeightsError, match=r"vsr_trlrs2lrs3vox2avsp_base\.pth from https://drive.*--weights"):
        build_encoder(*resolve(["auto-avsr.v"]))


def test_the_joined_stream_has_no_layers() -> None:
    with pytest.raises(EncoderError, match=r"auto-avsr\.av@3.*no layers of its own"):
        AutoAvsrEncoder(CARDS["auto-avsr"], (FeatureName("auto-avsr", "av", 3),), {}, {"short_stream": "error"}, {})


@torch.inference_mode()
def test_an_inner_layer_runs_no_further_block() -> None:
    branch = branch_of(parts_of(tiny_state("v1", "audio"), "a"), "audio")
    ran: list[int] = []
    for number, block in enumerate(branch.encoders, 1):
        block.register_forward_hook(lambda module, given, out, number=number: ran.append(number))
    found = branch.transform(torch.randn(1, 5, 64), {1})
    assert ran == [1] and list(found) == [1]


@pytest.mark.parametrize("name", ["main_audio", "main_video", "v1_audio", "v1_video", "v1_audiovisual"])
@pytest.mark.shared
def test_names_and_shapes_are_those_of_the_real_files(name: str) -> None:
    manifest = json.loads((SHARED / "auto_avsr" / f"manifest_auto_avsr_{name}.json").read_text())
    with torch.device("meta"):
        whole = {key: torch.empty(shape) for key, shape in manifest["shapes"].items()}
    parts = parts_of(official.needed(whole), name)
    assert set(parts.sizes.values()) == {SIZES}
    learned = [each for key, each in official.needed(whole).items() if "running_" not in key]
    assert sum(each.numel() for each in learned) == manifest["n_params_feature_path"]


def test_the_published_sizes_have_the_published_number_of_parameters() -> None:
    def count(modality: Any) -> int:
        return sum(
            int(np.prod(shape)) for key, shape in branch_shapes(modality, SIZES).items() if "running_" not in key
        )

    assert (count("audio"), count("video")) == (174_694_016, 182_028_224)
    fusion = sum(int(np.prod(s)) for key, s in fusion_shapes(SIZES, SIZES, 8192).items() if "running_" not in key)
    assert fusion == 18_899_712


def test_random_weights_follow_the_seed_and_their_rules() -> None:
    one, same, other = (fresh_tensors(branch_shapes("video", TINY), seed, "v") for seed in (3, 3, 4))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["embed.0.weight"], other["embed.0.weight"])
    assert one["embed.0.bias"].abs().max() == pytest.approx(64**-0.5, rel=0.1)
    assert one["frontend.frontend3D.0.weight"].std() == pytest.approx((2 / 245) ** 0.5, rel=0.05)
    assert one["encoders.0.self_attn.pos_bias_u"].abs().max() == pytest.approx((6 / 12) ** 0.5, rel=0.2)
    assert one["encoders.1.conv_module.norm.running_var"].eq(1).all() and one["after_norm.bias"].eq(0).all()


def test_the_card_says_what_each_stream_reads_and_the_setting_changes_the_crop() -> None:
    card = card_of("auto-avsr")
    assert {stream: [view.kind for view in output.reads] for stream, output in card.outputs.items()} == {
        "a": ["sound"],
        "v": ["mouth"],
        "av": ["sound", "mouth"],
    }
    assert card.outputs["v"].reads[0].recipe == "colour"
    steady = card_of("auto-avsr", {"crop": "auto-avsr"})
    assert steady.outputs["av"].reads[1] == steady.outputs["v"].reads[0] == MOUTH_STEADY


def clip(frames: int, samples: int | None = None) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    random = np.random.default_rng(0)
    mouths = random.integers(0, 256, (frames, 96, 96, 3), np.uint8)
    sound: Rows = random.standard_normal(640 * frames if samples is None else samples).astype(np.float32) * 0.1
    return mouths, sound


def test_lips_take_no_more_pictures_at_once_than_a_block(
    monkeypatch: pytest.MonkeyPatch, both: AutoAvsrEncoder
) -> None:
    seen: list[int] = []
    stretch = blocks.LipResNet.stretch

    def counting(self: Any, pictures: Tensor) -> Tensor:
        seen.append(len(pictures))
        return stretch(self, pictures)

    monkeypatch.setattr(blocks.LipResNet, "stretch", counting)
    monkeypatch.setattr(lips, "BLOCK_FRAMES", 4)
    encode(both, clip(10)[0], None, "v", "v@1", block=10)
    assert seen == [6, 8, 6, 6]
