"""Writing media: what was given comes back, a file is whole or not there, names are names."""

import math
import os
import stat
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from made_media import HEIGHT, WIDTH, clicks, clicks_of, numbered, numbers_of
from numpy.typing import NDArray

from avfeat import media
from avfeat.clip import Clip, probe
from avfeat.errors import MediaError, SetupError
from avfeat.media import ffmpeg_program, ffmpeg_version, transcode, write_video

PICTURES = [numbered(k) for k in range(30)]
CLICKS = [Fraction(1, 4), Fraction(3, 4)]


def program(folder: Path, text: str) -> str:
    """A program that a test puts in ffmpeg's place."""
    path = folder / "ffmpeg-of-the-test"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize("fps", [25, 30, Fraction(30000, 1001), 29.97])
def test_pictures_and_sound_come_back_at_their_rate(fps: float | Fraction, tmp_path: Path) -> None:
    sound = clicks(CLICKS, Fraction(1), 16_000)
    write_video(tmp_path / "a.mp4", PICTURES, fps, sound, 16_000)
    read = probe(tmp_path / "a.mp4")
    assert (read.width, read.height, read.source_frames) == (WIDTH, HEIGHT, 30)
    assert read.fps == pytest.approx(float(fps), rel=1e-4)
    assert (read.audio_rate_hz, read.audio_channels) == (16_000, 1)
    with Clip(tmp_path / "a.mp4", "a") as clip:
        numbers = numbers_of(list(clip.blocks()))
        heard = clicks_of(clip.sound())
    expected = 25 * 30 / float(fps)
    assert len(numbers) == math.floor(expected + 0.5)
    assert numbers[0] == 0
    assert np.abs(np.subtract(heard, [16_000 * float(click) for click in CLICKS])).max() <= 8


def test_float_sound_and_two_channels_keep_their_loudness(tmp_path: Path) -> None:
    time = np.arange(16_000) / 16_000
    tone = (0.25 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    write_video(tmp_path / "a.mov", PICTURES, 30, np.stack([tone, tone], axis=1), 16_000, audio_codec="pcm_s16le")
    with Clip(tmp_path / "a.mov", "a") as clip:
        assert clip.media.audio_channels == 2
        assert np.abs(clip.sound() - tone).max() <= 1.5 / 32768


def test_sound_that_is_too_loud_is_clipped_and_never_wraps(tmp_path: Path) -> None:
    loud = np.repeat([1.5, -1.5], 800).astype(np.float32)
    write_video(tmp_path / "a.mov", PICTURES, 30, loud, 16_000, audio_codec="pcm_s16le")
    with Clip(tmp_path / "a.mov", "a") as clip:
        sound = clip.sound()
    assert (sound[10:790] > 0.99).all()
    assert (sound[810:1590] < -0.99).all()


def test_size_codec_quality_and_pixel_format_are_as_asked(tmp_path: Path) -> None:
    noise = [np.random.default_rng(k).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) for k in range(5)]
    write_video(tmp_path / "small.mkv", PICTURES, 25, size=(64, 48), video_codec="mpeg4", crf=None)
    write_video(tmp_path / "odd.mp4", [picture[:95, :127] for picture in PICTURES], 25, pixel_format="yuv444p")
    write_video(tmp_path / "fine.mp4", noise, 25, crf=10)
    write_video(tmp_path / "coarse.mp4", noise, 25, crf=45)
    small, odd = probe(tmp_path / "small.mkv"), probe(tmp_path / "odd.mp4")
    assert (small.width, small.height, small.video_codec) == (64, 48, "mpeg4")
    assert (odd.width, odd.height, odd.has_audio) == (127, 95, False)
    assert (tmp_path / "fine.mp4").stat().st_size > 3 * (tmp_path / "coarse.mp4").stat().st_size


def test_the_same_pictures_give_the_same_file_on_any_number_of_processors(tmp_path: Path) -> None:
    processors = os.sched_getaffinity(0)
    for name, allowed in (("all.mp4", processors), ("one.mp4", {min(processors)})):
        os.sched_setaffinity(0, allowed)
        try:
            write_video(tmp_path / name, PICTURES, 25, clicks(CLICKS, Fraction(1), 16_000), 16_000)
        finally:
            os.sched_setaffinity(0, processors)
    assert (tmp_path / "all.mp4").read_bytes() == (tmp_path / "one.mp4").read_bytes()


def test_no_picture_or_a_picture_of_another_size_is_an_error_that_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"a.mp4: no pictures to write"):
        write_video(tmp_path / "a.mp4", [], 25)
    with pytest.raises(MediaError, match=r"picture 3 is uint8 \[5, 5, 3\]; .* the first is \[96, 128, 3\]"):
        write_video(tmp_path / "a.mp4", [*PICTURES[:3], PICTURES[3][:5, :5]], 25)
    with pytest.raises(MediaError, match="picture 0 is float64"):
        write_video(tmp_path / "a.mp4", [np.zeros((8, 8, 3))], 25)
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_pictures_are_made_passes_through_and_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"old")

    def pictures() -> Iterator[NDArray[np.uint8]]:
        yield from PICTURES
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_video(tmp_path / "a.mp4", pictures(), 25)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.mp4", b"old")]


def test_what_ffmpeg_says_is_at_the_end_of_the_message(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"a.mp4: ffmpeg failed with exit code \d+: .*no-such-codec"):
        write_video(tmp_path / "a.mp4", PICTURES, 25, video_codec="no-such-codec")
    with pytest.raises(MediaError, match=r"a.nonsense: ffmpeg failed"):
        write_video(tmp_path / "a.nonsense", PICTURES, 25)
    assert list(tmp_path.iterdir()) == []


def test_an_ffmpeg_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVFEAT_FFMPEG", program(tmp_path, "exec sleep 60"))
    started = time.monotonic()
    with pytest.raises(MediaError, match=r"a.mp4: ffmpeg was stopped after 0.3 s"):
        write_video(tmp_path / "a.mp4", PICTURES * 20, 25, timeout_seconds=0.3)
    assert time.monotonic() - started < 20
    assert not (tmp_path / "a.mp4").exists()


NAMES = ["-y.mp4", "http:x.mp4", "concat:a|b.mp4", "%03d.mp4", "a b é 你.mp4", "pipe:1.mp4", "x'; touch y #.mp4"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_file_and_never_an_option_or_an_address(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(Path(name), PICTURES, 25)
    transcode(Path(name), Path(f"{name}.mkv"))
    assert {path.name for path in tmp_path.iterdir()} == {name, f"{name}.mkv"}
    assert probe(Path(f"{name}.mkv")).has_video


def test_a_perturbed_copy_has_what_was_asked_and_keeps_the_rest(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", PICTURES, 30, clicks(CLICKS, Fraction(1), 48_000), 48_000)
    transcode(tmp_path / "a.mp4", tmp_path / "same.mp4")
    transcode(tmp_path / "a.mp4", tmp_path / "b.mkv", size=(64, 48), fps=15, sound_rate_hz=22_050, crf=30)
    transcode(tmp_path / "a.mp4", tmp_path / "noisy.mp4", noise=60)
    same, other = probe(tmp_path / "same.mp4"), probe(tmp_path / "b.mkv")
    assert (same.width, same.fps, same.audio_rate_hz) == (WIDTH, 30, 48_000)
    assert (other.width, other.height, other.fps, other.audio_rate_hz) == (64, 48, 15, 22_050)
    with Clip(tmp_path / "same.mp4", "same") as clean, Clip(tmp_path / "noisy.mp4", "noisy") as noisy:
        difference = np.abs(next(clean.blocks()).astype(int) - next(noisy.blocks()))
    assert difference.mean() > 3
    with Clip(tmp_path / "b.mkv", "b") as clip:
        assert np.abs(np.subtract(clicks_of(clip.sound()), [4_000, 12_000])).max() <= 16


def test_a_copy_is_made_of_media_only_and_a_playlist_opens_nothing(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", PICTURES, 25)
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile a.mp4\n")
    with pytest.raises(MediaError, match=r"b.mp4: ffmpeg failed"):
        transcode(tmp_path / "list.mp4", tmp_path / "b.mp4")
    with pytest.raises(MediaError, match="No such file"):
        transcode(tmp_path / "missing.mp4", tmp_path / "b.mp4")
    assert not (tmp_path / "b.mp4").exists()


def test_the_ffmpeg_is_the_wheels_or_the_one_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AVFEAT_FFMPEG", raising=False)
    assert "imageio_ffmpeg" in ffmpeg_program()
    assert ffmpeg_version()[0].isalnum()
    named = program(tmp_path, 'echo "ffmpeg version 1.2.3-test Copyright"')
    monkeypatch.setenv("AVFEAT_FFMPEG", named)
    assert (ffmpeg_program(), ffmpeg_version()) == (named, "1.2.3-test")


@pytest.mark.parametrize("named", ["no-such-program", "/"])
def test_a_named_ffmpeg_that_is_none_says_so(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVFEAT_FFMPEG", named)
    with pytest.raises(SetupError, match="AVFEAT_FFMPEG"):
        ffmpeg_version()


def test_a_program_that_is_no_ffmpeg_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVFEAT_FFMPEG", program(tmp_path, "echo something else"))
    with pytest.raises(SetupError, match="does not say that it is ffmpeg"):
        ffmpeg_version()


def test_no_ffmpeg_at_all_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AVFEAT_FFMPEG", raising=False)
    monkeypatch.setattr(media.imageio_ffmpeg, "get_ffmpeg_exe", _none)
    with pytest.raises(SetupError, match="pip install"):
        ffmpeg_program()


def _none() -> str:
    raise RuntimeError("No ffmpeg exe could be found.")
