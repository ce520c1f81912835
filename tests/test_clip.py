"""What a clip gives: turned pictures, sound at its own loudness, chosen streams, blocks, bounded memory."""

import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
from made_media import HEIGHT, SOUND_RATE_HZ, WIDTH, clicks, ffmpeg, numbers_of, rising, write_clip
from numpy.typing import NDArray

from avfeat.clip import Clip, library_versions, probe
from avfeat.errors import NoPicturesError, NoSoundError

COLOURS = np.array([[[220, 30, 30], [30, 200, 30]], [[30, 30, 220], [220, 220, 40]]], np.uint8)
"""Red, green above blue, yellow."""


def corners(number: int = 0) -> NDArray[np.uint8]:
    """A picture whose four corners differ, so that each of the eight turns shows."""
    return COLOURS.repeat(HEIGHT // 2, axis=0).repeat(WIDTH // 2, axis=1)


def corners_of(picture: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Which of COLOURS is nearest in each corner, [2, 2] of 0..3."""
    height, width = picture.shape[:2]
    quarter = picture[height // 4 :: height // 2, width // 4 :: width // 2].astype(int)
    distance = np.abs(quarter[:, :, None] - COLOURS.reshape(4, 3).astype(int)).sum(axis=-1)
    return distance.argmin(axis=-1)


def tone(seconds: float, rate_hz: int = SOUND_RATE_HZ) -> NDArray[np.int16]:
    return np.rint(8000 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.int16)


def amplitude(sound: NDArray[np.float32]) -> float:
    """Of a steady tone, without its ends, in units of 16-bit samples."""
    middle = sound[2_000:-2_000].astype(np.float64) * 32768
    return float(np.sqrt(2 * np.mean(middle**2)))


@pytest.mark.parametrize(
    ("degrees", "mirrored", "flipped"), list(product((0.0, 90.0, 180.0, 270.0), (False, True), (False, True)))
)
def test_every_turn_of_the_display_matrix_shows_what_ffmpeg_shows(
    degrees: float, mirrored: bool, flipped: bool, tmp_path: Path
) -> None:
    path = tmp_path / "turned.mov"
    write_clip(path, rising(Fraction(25), 1), picture=corners, turn=(degrees, mirrored, flipped))
    with Clip(path, "turned") as clip:
        ours = next(clip.blocks())[0]
        media = clip.media
    raw = ffmpeg("-i", f"file:{path}", "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    assert (media.width, media.height) == ((HEIGHT, WIDTH) if degrees % 180 else (WIDTH, HEIGHT))
    assert ours.shape == (media.height, media.width, 3)
    assert np.array_equal(ours, np.frombuffer(raw, np.uint8).reshape(ours.shape))


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_clip_says_how_far_its_pictures_are_turned_clockwise(degrees: int, tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mov", rising(Fraction(25), 1), picture=corners, turn=(degrees, False, False))
    with Clip(tmp_path / "a.mov", "a") as clip:
        seen = corners_of(next(clip.blocks())[0])
    clockwise = clip.media.rotation_degrees
    assert np.array_equal(seen, np.rot90(np.arange(4).reshape(2, 2), -clockwise // 90))
    assert sorted({0, clockwise}) == sorted({0, -degrees % 360})


def test_an_angle_between_two_turns_counts_as_the_nearest(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mov", rising(Fraction(25), 1), picture=corners, turn=(80.0, False, False))
    write_clip(tmp_path / "b.mov", rising(Fraction(25), 1), picture=corners, turn=(90.0, False, False))
    with Clip(tmp_path / "a.mov", "a") as near, Clip(tmp_path / "b.mov", "b") as exact:
        assert np.array_equal(next(near.blocks()), next(exact.blocks()))


@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_one_voice_in_every_channel_keeps_its_loudness(layout: str, tmp_path: Path) -> None:
    channels = 1 if layout == "mono" else 2
    same = np.repeat(tone(2)[:, None], channels, axis=1)
    for suffix, codec in (("mov", "pcm_s16le"), ("mp4", "aac")):
        path = tmp_path / f"a.{suffix}"
        write_clip(path, (), [(Fraction(0), same)], audio_codec=codec, layout=layout)
        with Clip(path, "a") as clip:
            # A mix in float would be 11 314: louder by the square root of two.
            assert amplitude(clip.sound()) == pytest.approx(8000, rel=0.0005 if codec == "pcm_s16le" else 0.01)


@pytest.mark.parametrize("layout", ["5.1", "7.1", "quad", "3.0"])
def test_surround_is_mixed_down_as_ffmpeg_does_for_16_bit_mono(layout: str, tmp_path: Path) -> None:
    channels = {"5.1": 6, "7.1": 8, "quad": 4, "3.0": 3}[layout]
    sound = np.stack([np.roll(tone(1), 40 * k) // (k + 1) for k in range(channels)], axis=1)
    path = tmp_path / "a.mov"
    write_clip(path, (), [(Fraction(0), sound)], audio_codec="pcm_s16le", layout=layout)
    with Clip(path, "a") as clip:
        ours = clip.sound() * 32768
        assert clip.media.audio_channels == channels
    theirs = np.frombuffer(ffmpeg("-i", f"file:{path}", "-ac", "1", "-ar", "16000", "-f", "s16le", "-"), np.int16)
    assert np.abs(ours - theirs)[:-50].max() <= 1


def test_sound_at_16_khz_mono_comes_through_untouched(tmp_path: Path) -> None:
    samples = tone(1, 16_000)
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
    with Clip(tmp_path / "a.wav", "a") as clip:
        assert np.array_equal(clip.sound() * 32768, samples)
        assert clip.sound().dtype == np.float32


def two_sounds(path: Path, layouts: tuple[str, str], default: tuple[bool, bool]) -> None:
    """A file with two audio streams: 440 Hz at 4000, and silence; flagged as default or not."""
    packets = []
    with av.open(str(path), "w", options={"default_mode": "passthrough"}) as container:
        streams = [container.add_stream("flac", rate=SOUND_RATE_HZ, layout=layout) for layout in layouts]
        for stream, flag in zip(streams, default, strict=True):
            stream.disposition = av.stream.Disposition.default if flag else av.stream.Disposition(0)
        for stream, layout, loud in zip(streams, layouts, (1, 0), strict=True):
            samples = np.repeat(tone(1) * loud, stream.channels).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE_HZ, 0, Fraction(1, SOUND_RATE_HZ)
            packets += [*stream.encode(frame), *stream.encode(None)]
        for packet in sorted(packets, key=lambda packet: packet.dts):
            container.mux(packet)


@pytest.mark.parametrize(
    ("layouts", "default", "chosen"),
    [
        (("mono", "mono"), (False, False), 0),
        (("mono", "stereo"), (False, False), 1),
        (("mono", "stereo"), (True, False), 0),
        (("stereo", "mono"), (False, True), 1),
    ],
)
def test_of_two_sounds_the_default_counts_then_the_channels_then_the_order(
    layouts: tuple[str, str], default: tuple[bool, bool], chosen: int, tmp_path: Path
) -> None:
    two_sounds(tmp_path / "a.mkv", layouts, default)
    with Clip(tmp_path / "a.mkv", "a") as clip:
        assert clip.media.audio_streams == 2
        assert clip.media.audio_index == chosen
        assert clip.sound().any() == (chosen == 0)


def test_a_cover_picture_is_not_a_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp3"), "w", format="mp3") as container:
        audio = container.add_stream("libmp3lame", rate=SOUND_RATE_HZ, layout="mono")
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = WIDTH, HEIGHT, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(corners(), format="rgb24")
        picture.pts = 0
        container.mux(cover.encode(picture))
        frame = av.AudioFrame.from_ndarray(tone(1).reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = SOUND_RATE_HZ
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    media = probe(tmp_path / "a.mp3")
    assert (media.has_video, media.has_audio, media.video_streams) == (False, True, 1)


def test_pictures_without_sound_and_sound_without_pictures_are_clips_too(tmp_path: Path) -> None:
    write_clip(tmp_path / "seen.mp4", rising(Fraction(25), 1))
    write_clip(tmp_path / "heard.mp4", (), [(Fraction(0), tone(1))])
    with Clip(tmp_path / "seen.mp4", "seen") as seen, Clip(tmp_path / "heard.mp4", "heard") as heard:
        assert numbers_of(list(seen.blocks())) == list(range(25))
        assert len(heard.sound()) == 16_000
        with pytest.raises(NoSoundError, match=r"^seen: the file has no sound track"):
            seen.sound()
        with pytest.raises(NoPicturesError, match=r"^heard: the file has no pictures"):
            next(heard.blocks())
        assert (seen.media.has_audio, seen.media.audio_rate_hz) == (False, None)
        assert (heard.media.has_video, heard.media.width, heard.media.fps) == (False, None, None)


def test_the_facts_of_a_whole_clip(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", rising(Fraction(30), 2), [(Fraction(0), tone(2))])
    with Clip(tmp_path / "a.mp4", "a") as clip:
        media, before = clip.media, clip.facts()
        blocks = list(clip.blocks())
        after = clip.facts()
    assert (media.fps, media.source_frames, media.duration_seconds) == (30, 60, 2)
    assert (media.audio_rate_hz, media.audio_channels) == (SOUND_RATE_HZ, 1)
    assert (media.container, media.video_codec, media.audio_codec) == ("mov", "h264", "aac")
    assert (before.frames, before.sound_samples, before.status) == (0, 0, "done")
    assert sum(map(len, blocks)) == after.frames == 50
    assert (after.source_frames, after.sound_samples) == (60, 32_000)
    assert (after.status, after.detail, after.corrupt_pictures, after.corrupt_sounds) == ("done", "", 0, 0)
    assert (after.video_start_seconds, after.video_end_seconds) == (0, 2)
    assert (after.sound_start_seconds, after.sound_end_seconds) == (0, 2)


def test_sound_alone_sound_first_and_sound_by_the_way_are_the_same(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", rising(Fraction(25), 2), [(Fraction(0), tone(2))])
    with Clip(tmp_path / "a.mp4", "a", pictures=False) as alone:
        expected = alone.sound()
        with pytest.raises(NoPicturesError, match="pictures=False"):
            next(alone.blocks())
    with Clip(tmp_path / "a.mp4", "a") as first:
        assert np.array_equal(first.sound(), expected)
        assert numbers_of(list(first.blocks())) == list(range(50))
    with Clip(tmp_path / "a.mp4", "a") as by_the_way:
        list(by_the_way.blocks())
        (tmp_path / "a.mp4").unlink()
        # The file is gone: this sound can only come from the pass over the pictures.
        assert np.array_equal(by_the_way.sound(), expected)


def test_a_second_look_shows_the_same_from_memory_and_decoded_again(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_clip(path, rising(Fraction(30), 3), [(Fraction(0), tone(3))])
    looks = []
    for memory_bytes in (256 << 20, 40 * WIDTH * HEIGHT * 3):
        with Clip(path, "a", memory_bytes=memory_bytes) as clip:
            looks += [np.concatenate(list(clip.blocks())) for _ in range(2)]
            looks.append(np.concatenate(list(clip.blocks())))
    assert all(np.array_equal(look, looks[0]) for look in looks)
    with Clip(path, "a") as kept:
        list(kept.blocks())
        path.unlink()
        assert np.array_equal(np.concatenate(list(kept.blocks())), looks[0])


def test_a_look_that_was_broken_off_is_forgotten(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", rising(Fraction(25), 3), [(Fraction(0), tone(3))])
    with Clip(tmp_path / "a.mp4", "a", block_frames=4) as clip:
        look = clip.blocks()
        next(look)
        look.close()
        assert clip.facts().frames == 0
        assert numbers_of(list(clip.blocks())) == list(range(75))
        assert len(clip.sound()) == 48_000


@pytest.mark.parametrize("block_frames", [1, 7, 32, 1000])
def test_blocks_have_the_asked_size_and_only_the_last_is_shorter(block_frames: int, tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", rising(Fraction(10), 4))
    with Clip(tmp_path / "a.mp4", "a", block_frames=block_frames) as clip:
        blocks = list(clip.blocks())
    assert sum(map(len, blocks)) == 100
    assert all(len(block) == block_frames for block in blocks[:-1])
    assert all(block.dtype == np.uint8 and block.shape[1:] == (HEIGHT, WIDTH, 3) for block in blocks)


def peak_bytes(path: Path, memory_bytes: int) -> int:
    tracemalloc.start()
    try:
        with Clip(path, "a", memory_bytes=memory_bytes) as clip:
            for _ in range(2):
                for block in clip.blocks():
                    assert block.nbytes <= memory_bytes // 2
            return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_long_clip_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    write_clip(tmp_path / "short.mp4", rising(Fraction(5), 6))
    write_clip(tmp_path / "long.mp4", rising(Fraction(5), 60))
    memory_bytes = 32 * WIDTH * HEIGHT * 3
    short, long = peak_bytes(tmp_path / "short.mp4", memory_bytes), peak_bytes(tmp_path / "long.mp4", memory_bytes)
    # All pictures of the long clip would be 55 MB.
    assert long < 2.5 * memory_bytes
    assert long < short + 300_000


def test_a_clip_is_decoded_in_the_thread_that_asks_for_it(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", rising(Fraction(25), 3), [(Fraction(0), tone(3))])
    tasks = Path("/proc/self/task")
    before = len(list(tasks.iterdir()))
    with Clip(tmp_path / "a.mp4", "a", block_frames=4) as clip:
        during = [len(list(tasks.iterdir())) for _ in clip.blocks()]
    assert set(during) == {before}


def test_where_the_picture_changes_its_size_the_first_size_stays(tmp_path: Path) -> None:
    def picture(size: int) -> Callable[[int], NDArray[np.uint8]]:
        return lambda number: np.full((size, size, 3), 9 * number, np.uint8)

    for name, size in (("small", 64), ("large", 128)):
        write_clip(tmp_path / f"{name}.h264", rising(Fraction(25), 1), picture=picture(size))
    both = b"".join((tmp_path / f"{name}.h264").read_bytes() for name in ("small", "large"))
    (tmp_path / "both.h264").write_bytes(both)
    with Clip(tmp_path / "both.h264", "both") as clip:
        blocks = list(clip.blocks())
    assert (clip.media.width, clip.media.height) == (64, 64)
    assert {block.shape[1:] for block in blocks} == {(64, 64, 3)}
    assert sum(map(len, blocks)) == 50


def test_pixels_that_are_not_square_stay_as_stored(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", rising(Fraction(25), 1))
    ffmpeg("-i", f"file:{tmp_path / 'a.mp4'}", "-c", "copy", "-aspect", "3:1", f"file:{tmp_path / 'wide.mp4'}")
    media = probe(tmp_path / "wide.mp4")
    assert (media.width, media.height) == (WIDTH, HEIGHT)


def test_the_library_versions_name_pyav_and_its_decoders() -> None:
    versions = library_versions()
    assert versions["pyav"] == av.__version__
    assert {"libavcodec", "libavformat", "libswscale", "libswresample"} <= versions.keys()


def test_clicks_survive_every_sound_rate(tmp_path: Path) -> None:
    for rate in (8_000, 11_025, 22_050, 44_100, 96_000):
        path = tmp_path / f"{rate}.wav"
        samples = clicks([Fraction(1, 2)], Fraction(1), rate)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
            frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
            frame.sample_rate = rate
            container.mux(stream.encode(frame))
        with Clip(path, "a") as clip:
            sound = clip.sound()
            assert abs(int(np.argmax(sound)) - 8_000) <= 2
            assert abs(len(sound) - 16_000) <= 2
            assert clip.media.audio_rate_hz == rate
