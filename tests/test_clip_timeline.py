"""Every picture and every click lands where the slot rule says, computed here once more and by hand."""

from collections.abc import Sequence
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest
from made_media import (
    SOUND_RATE_HZ,
    TICK,
    clicks,
    clicks_of,
    ffmpeg,
    numbers_of,
    rising,
    write_clip,
)

from avfeat.clip import Clip

HALF = Fraction(1, 2)
CLICKS = [Fraction(k, 2) + Fraction(1, 4) for k in range(8)]
SOUND = [(Fraction(0), clicks(CLICKS, Fraction(4)))]

EVEN = {"25": Fraction(25), "24": Fraction(24), "29.97": Fraction(30000, 1001), "30": Fraction(30)}
RATES = EVEN | {"50": Fraction(50), "60": Fraction(60), "15": Fraction(15), "120": Fraction(120)}


def in_ticks(stamps: Sequence[Fraction]) -> list[Fraction]:
    """The stamps as a file with 90 000 ticks a second can hold them."""
    return [Fraction(round(stamp * TICK), TICK) for stamp in stamps]


def shown(stamps: Sequence[Fraction], end: Fraction) -> list[int]:
    """The picture of each frame by the rule, word for word and slowly."""
    slots = [floor(25 * stamp + HALF) for stamp in stamps]
    frames = max(floor(25 * end + HALF), 1)
    return [max([j for j, slot in enumerate(slots) if slot <= k], default=0) for k in range(frames)]


def after_last(stamps: Sequence[Fraction]) -> Fraction:
    return stamps[-1] + (stamps[-1] - stamps[-2])


def uneven() -> list[Fraction]:
    """Three seconds at 30 per second with jitter of 8 ms, a third of the pictures dropped, and a hole of 0.5 s."""
    random = np.random.default_rng(7)
    stamps = [Fraction(k, 30) + Fraction(int(random.integers(-8, 9)), 1000) for k in range(1, 90)]
    kept = [stamp for stamp in stamps if random.random() > 0.3 and not 1 < stamp < 1.5]
    return [Fraction(0), *kept]


@pytest.mark.parametrize("rate", RATES)
def test_pictures_and_clicks_land_where_the_rule_says_at_every_rate(rate: str, tmp_path: Path) -> None:
    stamps = in_ticks(rising(RATES[rate], 4))
    write_clip(tmp_path / "a.mov", stamps, SOUND, audio_codec="pcm_s16le")
    with Clip(tmp_path / "a.mov", "a") as clip:
        numbers = numbers_of(list(clip.blocks()))
        heard = clicks_of(clip.sound())
    assert numbers == shown(stamps, after_last(stamps))
    assert heard == [16_000 * click for click in CLICKS]


@pytest.mark.parametrize("suffix", ["mov", "mkv"])
def test_pictures_of_uneven_stamps_land_where_the_rule_says(suffix: str, tmp_path: Path) -> None:
    stamps = in_ticks(uneven())
    if suffix == "mkv":
        stamps = [Fraction(round(stamp * 1000), 1000) for stamp in stamps]
    path = tmp_path / f"a.{suffix}"
    write_clip(path, stamps, SOUND, audio_codec="pcm_s16le")
    with Clip(path, "a") as clip:
        numbers = numbers_of(list(clip.blocks()))
        heard = clicks_of(clip.sound())
    expected = shown(stamps, after_last(stamps))
    assert numbers[: len(expected) - 2] == expected[:-2]
    assert abs(len(numbers) - len(expected)) <= 2
    assert heard == [16_000 * click for click in CLICKS]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_pictures_that_start_late_are_preceded_by_the_first_and_the_sound_stays(suffix: str, tmp_path: Path) -> None:
    stamps = rising(Fraction(25), 3, start=Fraction(1, 5))
    path = tmp_path / f"late.{suffix}"
    write_clip(path, stamps, SOUND)
    with Clip(path, "late") as clip:
        numbers = numbers_of(list(clip.blocks()))
        heard = clicks_of(clip.sound())
        facts = clip.facts()
    assert numbers == [0] * 5 + list(range(75))
    assert np.abs(np.subtract(heard, [16_000 * float(click) for click in CLICKS])).max() <= 16
    assert facts.video_start_seconds == pytest.approx(0.2)
    assert facts.status == "done"


@pytest.mark.parametrize(("suffix", "codec"), [("mov", "pcm_s16le"), ("mkv", "pcm_s16le"), ("mp4", "aac")])
def test_sound_that_starts_late_is_preceded_by_zeros(suffix: str, codec: str, tmp_path: Path) -> None:
    late = Fraction(3, 10)
    path = tmp_path / f"late.{suffix}"
    write_clip(path, rising(Fraction(25), 3), [(late, SOUND[0][1])], audio_codec=codec)
    with Clip(path, "late") as clip:
        list(clip.blocks())
        sound = clip.sound()
        facts = clip.facts()
    allowed = 16 if codec == "aac" else 1
    heard = [16_000 * float(click + late) for click in CLICKS]
    assert np.abs(np.subtract(clicks_of(sound), heard)).max() <= allowed
    assert not sound[: 16_000 * 27 // 100].any()
    assert facts.sound_start_seconds == pytest.approx(0.3, abs=0.025)


def test_time_zero_is_the_files_own_also_where_nothing_starts_at_it(tmp_path: Path) -> None:
    stamps = rising(Fraction(25), 3, start=Fraction(1, 5))
    write_clip(tmp_path / "a.mkv", stamps, [(Fraction(3, 10), SOUND[0][1])], audio_codec="flac")
    with Clip(tmp_path / "a.mkv", "a") as clip:
        assert numbers_of(list(clip.blocks())) == [0] * 5 + list(range(75))
        assert clicks_of(clip.sound()) == [16_000 * (click + Fraction(3, 10)) for click in CLICKS]


@pytest.mark.parametrize(("rate", "cut"), [("25", "1.32"), ("30", "1.3"), ("25", "1.3")])
def test_a_cut_without_reencoding_hides_what_lies_before_its_edit_list(rate: str, cut: str, tmp_path: Path) -> None:
    # One key picture only: the cut must keep everything from the start and hide it.
    write_clip(tmp_path / "whole.mp4", rising(EVEN[rate], 4), SOUND, keyframes=1000)
    ffmpeg("-ss", cut, "-i", f"file:{tmp_path / 'whole.mp4'}", "-c", "copy", f"file:{tmp_path / 'cut.mp4'}")
    with Clip(tmp_path / "cut.mp4", "cut") as clip:
        numbers = numbers_of(list(clip.blocks()))
        heard = clicks_of(clip.sound())
        facts = clip.facts()
    stamps = [stamp - Fraction(cut) for stamp in rising(EVEN[rate], 4)]
    first = next(j for j, stamp in enumerate(stamps) if stamp >= 0)
    # libavformat lets the first picture that is not hidden begin at zero, by less than one picture too early.
    visible = [stamp - stamps[first] for stamp in stamps[first:]]
    assert first > 30
    assert numbers == [first + j for j in shown(visible, after_last(visible))]
    left = [16_000 * float(click - Fraction(cut)) for click in CLICKS if click > Fraction(cut)]
    assert np.abs(np.subtract(heard, left)).max() <= 16
    assert facts.status == "done"
    assert facts.detail == ""


def test_a_transport_stream_counts_from_its_earliest_stamp(tmp_path: Path) -> None:
    hours = Fraction(7200)
    stamps = rising(Fraction(25), 3, start=hours + Fraction(1, 5))
    write_clip(tmp_path / "a.ts", stamps, [(hours, SOUND[0][1])], audio_codec="mp2")
    with Clip(tmp_path / "a.ts", "a") as clip:
        numbers = numbers_of(list(clip.blocks()))
        heard = clicks_of(clip.sound())
    assert numbers == [0] * 5 + list(range(75))
    # The encoder of MPEG audio puts 481 samples of its own delay before the first.
    assert np.abs(np.subtract(heard, [16_000 * float(click) for click in CLICKS])).max() <= 16 + 481 // 3


def test_a_piece_of_something_longer_counts_from_its_earliest_stamp(tmp_path: Path) -> None:
    start = Fraction(100)
    write_clip(tmp_path / "a.mkv", rising(Fraction(25), 2, start=start), [(start, SOUND[0][1])], audio_codec="flac")
    with Clip(tmp_path / "a.mkv", "a") as clip:
        assert numbers_of(list(clip.blocks())) == list(range(50))
        assert clicks_of(clip.sound()) == [16_000 * click for click in CLICKS]


def test_a_hole_in_the_sound_is_zeros_and_what_is_there_twice_is_cut(tmp_path: Path) -> None:
    second = clicks([HALF], Fraction(1))
    sounds = [(Fraction(0), second), (Fraction(3, 2), second), (Fraction(9, 4), second)]
    write_clip(tmp_path / "a.mkv", (), sounds, audio_codec="pcm_s16le", piece=SOUND_RATE_HZ)
    with Clip(tmp_path / "a.mkv", "a") as clip:
        sound = clip.sound()
    # The third stretch begins a quarter second before the second ends; its click at 2.75 s stays.
    assert clicks_of(sound) == [8_000, 32_000, 44_000]
    assert not sound[16_100:23_900].any()
    assert len(sound) == 52_000


@pytest.mark.parametrize("lost", [Fraction(6, 100), Fraction(1, 4)])
def test_lost_packets_of_sound_do_not_draw_later_sound_forward(lost: Fraction, tmp_path: Path) -> None:
    sounds = [(Fraction(0), clicks([HALF], Fraction(1))), (1 + lost, clicks([HALF], Fraction(1)))]
    write_clip(tmp_path / "a.mkv", (), sounds, audio_codec="pcm_s16le")
    with Clip(tmp_path / "a.mkv", "a") as clip:
        assert clicks_of(clip.sound()) == [8_000, 24_000 + 16_000 * lost]


def test_stamps_that_jitter_by_less_than_a_frame_leave_the_sound_whole(tmp_path: Path) -> None:
    ramp = (np.arange(SOUND_RATE_HZ * 2) % 20_000).astype(np.int16)
    pieces = np.split(ramp, 20)
    jitter = [Fraction((-1) ** k * 12, 1000) for k in range(20)]
    sounds = [(Fraction(k, 10) + (jitter[k] if k else 0), piece) for k, piece in enumerate(pieces)]
    write_clip(tmp_path / "jitter.mkv", (), sounds, audio_codec="pcm_s16le", piece=len(ramp))
    write_clip(tmp_path / "even.mkv", (), [(Fraction(0), ramp)], audio_codec="pcm_s16le")
    with Clip(tmp_path / "jitter.mkv", "j") as jittered, Clip(tmp_path / "even.mkv", "e") as even:
        assert np.array_equal(jittered.sound(), even.sound())


def test_sound_ends_where_the_index_says_and_not_after_the_encoders_padding(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", rising(Fraction(25), 2), [(Fraction(0), clicks([HALF], Fraction(2)))])
    with Clip(tmp_path / "a.mp4", "a") as clip:
        assert len(clip.sound()) == 32_000


def test_the_frames_are_those_of_ffmpegs_fps_filter(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    write_clip(path, in_ticks(uneven()))
    raw = ffmpeg("-i", f"file:{path}", "-vf", "fps=25:start_time=0", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    theirs = np.frombuffer(raw, np.uint8).reshape(-1, 96, 128, 3)
    with Clip(path, "a") as clip:
        ours = np.concatenate(list(clip.blocks()))
    common = min(len(ours), len(theirs))
    assert abs(len(ours) - len(theirs)) <= 2
    assert np.array_equal(ours[:common], theirs[:common])
