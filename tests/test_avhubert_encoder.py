"""From a clip's views to rows: preprocessing, lengths, blocks and trimming, against the reference's own script."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file

from avfeat.clip import Clip
from avfeat.crops import grey
from avfeat.encoders.avhubert import SETTINGS, card_of
from avfeat.encoders.avhubert import encoder as encoder_room
from avfeat.encoders.avhubert.encoder import AvHubertEncoder
from avfeat.encoders.avhubert.initial import random_tensors
from avfeat.encoders.avhubert.loading import read_official
from avfeat.encoders.avhubert.preprocess import central, normalised, silent_frames
from avfeat.encoders.avhubert.published import CARDS, Architecture
from avfeat.encoders.avhubert.reencode import reencoded
from avfeat.encoders.avhubert.state import model_of
from avfeat.encoders.base import FeatureName, Late, Output
from avfeat.errors import EncoderError, LengthError, TooShortError
from avfeat.views import MOUTH, MOUTH_COLOUR, SOUND, Views
from tests.golden import HERE, more_folders

TINY = Architecture(width=64, layers=2, ffn=128, heads=4, resnet_width=8)
DEFAULTS = {name: str(setting.default) for name, setting in SETTINGS["avhubert-base"].items()}
FOLDERS = [HERE / "avhubert", *more_folders("end_to_end_io.safetensors")]


def tiny(name: str = "tiny", trimmed: bool = False, official: Path | None = None, **chosen: str) -> AvHubertEncoder:
    """Return an encoder of 64 numbers a row, with its card, for features ``name.a``, ``name.v`` and ``name.av``."""
    weights = random_tensors(TINY, 1) if official is None else read_official(official, TINY).tensors
    full = CARDS["avhubert-base-trimmed" if trimmed else "avhubert-base"]
    outputs = {stream: Output(output.reads, 64) for stream, output in full.outputs.items()}
    card = replace(full, name=name, outputs=outputs, layers=2)
    wanted = tuple(FeatureName(name, stream) for stream in ("a", "v", "av"))
    return AvHubertEncoder(card, wanted, model_of(weights, TINY), DEFAULTS | chosen, {}, trimmed=trimmed)


def encode(
    encoder: AvHubertEncoder, mouths: NDArray[np.uint8] | None, sound: NDArray[np.float32] | None, *streams: str
) -> dict[str, Any]:
    names = [FeatureName.parse(f"{encoder.card.name}.{stream}") for stream in streams]
    view = MOUTH_COLOUR if mouths is not None and mouths.ndim == 4 else MOUTH
    found = encoder.encode(Views(0, {} if mouths is None else {view: mouths}, sound), names)
    plain = {name: each.rows if isinstance(each, Late) else each for name, each in found.items()}
    return {stream: plain[name] for stream, name in zip(streams, names, strict=True)}


@pytest.fixture(scope="module")
def net() -> AvHubertEncoder:
    return tiny()


def clip(frames: int, samples: int | None = None, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    mouths = random.integers(0, 256, (frames, 96, 96), np.uint8)
    sound = random.standard_normal(640 * frames if samples is None else samples).astype(np.float32) * 0.1
    return mouths, sound


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_the_references_own_script_gives_the_same_rows(folder: Path) -> None:
    wanted = load_file(folder / "end_to_end_io.safetensors")
    mouths = load_file(folder / "roi_io.safetensors")["gray_decoded"]
    sound = load_file(folder / "audio_io.safetensors")["wave"]
    for trimmed, end in ((False, ""), (True, "_trimmed")):
        chosen = {"short_stream": "trim", "common_length": "true"}
        rows = encode(tiny("tiny", trimmed, folder / "tiny_finetuned.pt", **chosen), mouths, sound, "a", "v", "av")
        for stream, key in (("av", "multimodal"), ("v", "visual"), ("a", "audio")):
            assert np.abs(rows[stream] - wanted[f"{key}{end}"]).max() < 1e-5, (stream, trimmed)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_pictures_are_cut_and_normalised_as_the_reference_does(folder: Path) -> None:
    io = load_file(folder / "image_io.safetensors")
    for raw, wanted in (("gray96", "video96"), ("gray_odd", "video_odd")):
        assert np.array_equal(normalised(central(io[raw])), io[wanted][0, 0])
    assert np.array_equal(grey(io["bgr"][..., ::-1]), io["gray_of_bgr"])


def test_pictures_smaller_than_the_network_reads_are_refused() -> None:
    with pytest.raises(EncoderError, match="96 x 80 are too small"):
        central(np.zeros((2, 80, 96), np.uint8))


def test_all_three_streams_come_from_one_call_and_do_not_depend_on_each_other(net: AvHubertEncoder) -> None:
    mouths, sound = clip(7)
    together = encode(net, mouths, sound, "a", "v", "av", "av@1", "a@2")
    assert {stream: rows.shape for stream, rows in together.items()} == dict.fromkeys(together, (7, 64))
    for stream, rows in together.items():
        views = (mouths if stream[0] != "a" or stream[:2] == "av" else None), (sound if stream[0] == "a" else None)
        assert np.array_equal(encode(net, *views, stream)[stream], rows), stream
    assert not np.array_equal(together["a"], together["a@2"])


def test_each_picture_is_normalised_and_passed_once(net: AvHubertEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counting(mouths: Any) -> Any:
        seen.append(len(mouths))
        return normalised(mouths)

    monkeypatch.setattr(encoder_room, "normalised", counting)
    mouths, sound = clip(70)
    encode(net, mouths, sound, "v", "av", "v@1")
    assert seen == [32, 32, 6]


@pytest.mark.parametrize("frames", [1, 2, 31, 32, 33, 34, 65])
def test_blocks_give_what_the_whole_clip_gives_at_once(
    net: AvHubertEncoder, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    mouths, _ = clip(frames)
    rows = encode(net, mouths, None, "v")["v"]
    with torch.inference_mode():
        whole = torch.from_numpy(normalised(central(mouths)))[None]
        at_once = net.model(None, whole)[None][0].numpy()
    assert np.abs(rows - at_once).max() < 2e-6
    monkeypatch.setattr(encoder_room, "BLOCK_FRAMES", 7)
    assert np.abs(rows - encode(net, mouths, None, "v")["v"]).max() < 2e-6


@pytest.mark.parametrize(("frames", "steps"), [(8, 9), (9, 8), (1, 2), (2, 1), (40, 39)])
def test_streams_that_differ_by_one_step_are_cut_to_the_shorter_before_the_network(
    net: AvHubertEncoder, frames: int, steps: int
) -> None:
    mouths, sound = clip(frames, 640 * steps)
    shorter = min(frames, steps)
    rows = encode(net, mouths, sound, "a", "v", "av")
    assert [len(rows[stream]) for stream in ("a", "v", "av")] == [steps, frames, shorter]
    equal = encode(net, mouths[:shorter], sound[: 640 * shorter + 240], "av")
    assert np.abs(rows["av"] - equal["av"]).max() < 2e-6


def test_with_a_common_length_each_stream_is_as_long_as_the_shorter(net: AvHubertEncoder) -> None:
    mouths, sound = clip(8, 640 * 9)
    rows = encode(tiny(common_length="true"), mouths, sound, "a", "v", "av")
    cut = encode(net, mouths, sound[: 640 * 8 + 240], "a", "v", "av")
    for stream in rows:
        assert np.abs(rows[stream] - cut[stream]).max() < 2e-6
    alone = encode(tiny(common_length="true"), mouths, sound, "a")
    assert np.array_equal(alone["a"], rows["a"])
    uneven = encode(tiny(common_length="true"), mouths, sound[:2000], "a", "v")
    assert all(isinstance(error, LengthError) for error in uneven.values())


def test_streams_that_differ_by_more_fail_together_only_and_the_message_has_both_lengths(net: AvHubertEncoder) -> None:
    mouths, sound = clip(5, 640 * 9)
    rows = encode(net, mouths, sound, "a", "v", "av")
    assert len(rows["a"]) == 9 and len(rows["v"]) == 5
    assert isinstance(rows["av"], LengthError)
    assert "9 steps" in str(rows["av"]) and "pictures 5" in str(rows["av"])
    cut = encode(tiny(short_stream="trim"), mouths, sound, "av")["av"]
    assert np.abs(cut - encode(net, mouths, sound[: 640 * 5 + 240], "av")["av"]).max() < 2e-6


@pytest.mark.parametrize(
    ("samples", "skipped"),
    [([0.1], 0), ([0.0005, 0.1], 1), ([0.0] * 639 + [-0.1], 1), ([0.0] * 640 + [0.1], 2), ([0.0] * 18560 + [1], 29)],
)
def test_silence_is_counted_as_the_reference_counts_it(samples: list[float], skipped: int) -> None:
    assert silent_frames(np.array(samples, np.float32)) == skipped


@given(st.integers(1, 40_000))
@settings(max_examples=200, deadline=None)
def test_silence_up_to_a_sample_costs_its_frame_and_no_more(first: int) -> None:
    sound = np.zeros(first + 1, np.float32)
    sound[first] = -0.3
    # In floating point some multiples of 640 fall one frame short: the reference has it so.
    assert silent_frames(sound) in ({first // 640 + 1} if first % 640 else {first // 640, first // 640 + 1})


@pytest.mark.parametrize("sound", [[], [0.0] * 900, [0.0005] * 900])
def test_a_clip_of_silence_alone_has_nothing_left(sound: list[float]) -> None:
    with pytest.raises(TooShortError, match="nothing is left"):
        encode(tiny(trimmed=True), None, np.array(sound, np.float32), "a")


def test_trimmed_rows_are_those_of_the_clip_without_its_silence(net: AvHubertEncoder) -> None:
    mouths, sound = clip(9)
    sound[:1500] = 0.0
    rows = encode(tiny(trimmed=True), mouths, sound, "a", "v", "av")
    wanted = encode(net, mouths[3:], sound[1920:], "a", "v", "av")
    for stream in ("a", "v", "av"):
        assert np.array_equal(rows[stream], wanted[stream])


def test_a_trimmed_clip_says_how_much_later_its_rows_begin() -> None:
    mouths, sound = clip(9)
    sound[:1500] = 0.0
    name = FeatureName("tiny", "v")
    found = tiny(trimmed=True).encode(Views(0, {MOUTH: mouths}, sound), [name])[name]
    assert isinstance(found, Late) and found.seconds == 3 / 25 and len(found.rows) == 6


def test_no_picture_or_no_sample_is_too_short(net: AvHubertEncoder) -> None:
    mouths, sound = clip(0)
    with pytest.raises(TooShortError, match="no sample"):
        encode(net, None, sound, "a")
    with pytest.raises(TooShortError, match="no picture"):
        encode(net, mouths, None, "v")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_the_references_mouth_video_is_read_to_the_level_and_written_with_as_much_loss(folder: Path) -> None:
    io = load_file(folder / "roi_io.safetensors")
    read = io["gray_decoded"].astype(int)
    with Clip(folder / "roi.mp4", "roi", sound=False) as video:
        assert np.abs(np.concatenate([grey(block) for block in video.blocks()]).astype(int) - read).max() <= 1
    colour = np.ascontiguousarray(io["rois_bgr"][..., ::-1])
    theirs, ours = (np.abs(found.astype(int) - grey(colour)).mean() for found in (read, reencoded(colour)))
    assert ours == pytest.approx(theirs, rel=0.2)
    assert np.abs(reencoded(colour).astype(int) - read).mean() < 0.7 * theirs


def test_mouths_go_through_a_lossy_video_when_asked(net: AvHubertEncoder) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (5, 96, 96, 3), np.uint8)
    rows = encode(tiny(mouth_reencode="true"), colour, None, "v")["v"]
    assert np.abs(rows - encode(net, reencoded(colour), None, "v")["v"]).max() < 1e-6
    assert np.abs(rows - encode(net, grey(colour), None, "v")["v"]).max() > 1e-3


def test_the_card_says_what_each_stream_reads() -> None:
    plain, trimmed = CARDS["avhubert-large"], CARDS["avhubert-large-trimmed"]
    assert {name: output.reads for name, output in plain.outputs.items()} == {
        "a": (SOUND,),
        "v": (MOUTH,),
        "av": (SOUND, MOUTH),
    }
    assert trimmed.outputs["v"].reads == (SOUND, MOUTH)
    detour = card_of("avhubert-large", {"mouth_reencode": True, "common_length": "true"})
    assert {output.reads for output in detour.outputs.values()} == {(SOUND, MOUTH_COLOUR)}
    assert all("non-commercial research only" in card.licence_note for card in CARDS.values())
