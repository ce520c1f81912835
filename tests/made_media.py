"""Clips made for tests: a number in every picture, clicks in the sound, stamps of any kind."""

import subprocess
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from avfeat.media import ffmpeg_program

TICK = 90_000
WIDTH, HEIGHT = 128, 96
SOUND_RATE_HZ = 48_000
_GRID = 4

Sounds = Sequence[tuple[Fraction, NDArray[np.int16]]]
"""Stretches of sound: when each begins, and its samples at 48 kHz, int16 [n] or [n, channels]."""


def numbered(number: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """Return a grey picture that shows ``number`` as 4 x 4 large black and white cells, lowest bit first."""
    bits = (number >> np.arange(_GRID * _GRID)) & 1
    cells = np.where(bits.reshape(_GRID, _GRID), 235, 20).astype(np.uint8)
    rows, columns = np.arange(height) * _GRID // height, np.arange(width) * _GRID // width
    return np.repeat(cells[np.ix_(rows, columns)][..., None], 3, axis=2)


def number_of(picture: NDArray[np.uint8]) -> int:
    """Read the number that ``numbered`` wrote."""
    height, width = picture.shape[:2]
    rows, columns = (np.arange(_GRID) * 2 + 1) * height // 8, (np.arange(_GRID) * 2 + 1) * width // 8
    bits = picture[np.ix_(rows, columns)].mean(axis=2).ravel() > 128
    return int((bits << np.arange(_GRID * _GRID)).sum())


def numbers_of(blocks: Sequence[NDArray[np.uint8]]) -> list[int]:
    """Read the numbers of all pictures in blocks [n, height, width, 3]."""
    return [number_of(picture) for block in blocks for picture in block]


def clicks(times: Sequence[Fraction], seconds: Fraction, rate_hz: int = SOUND_RATE_HZ) -> NDArray[np.int16]:
    """Return silence of ``seconds`` with a smooth bump of 1.3 ms, its top at each of ``times``."""
    half = rate_hz // 1500
    bump = (20_000 * np.hanning(2 * half + 1)).astype(np.int16)
    sound = np.zeros(round(seconds * rate_hz) + 2 * half, np.int16)
    for time in times:
        start = round(time * rate_hz)
        sound[start : start + 2 * half + 1] = bump
    return sound[half:-half]


def clicks_of(sound: NDArray[np.float32]) -> list[int]:
    """Return the sample of each bump's top in 16 kHz sound."""
    loud = np.flatnonzero(sound > 0.2)
    groups = np.split(loud, np.flatnonzero(np.diff(loud) > 800) + 1) if len(loud) else []
    return [int(group[np.argmax(sound[group])]) for group in groups]


def write_clip(
    path: Path,
    stamps: Sequence[Fraction] = (),
    sounds: Sounds = (),
    *,
    picture: Callable[[int], NDArray[np.uint8]] = numbered,
    video_codec: str = "libx264",
    audio_codec: str = "aac",
    layout: str = "mono",
    keyframes: int = 12,
    piece: int = 1024,
    turn: tuple[float, bool, bool] | None = None,
    options: dict[str, str] | None = None,
) -> None:
    """Write a clip whose picture k has the number k and the time ``stamps[k]``; the last stays like the one before.

    Args:
        path: its suffix names the format.
        stamps: seconds, rising; none for a clip without pictures.
        sounds: none for a clip without sound.
        picture: gives picture k, RGB.
        video_codec: an encoder in PyAV; libx264 reorders pictures as real clips do.
        audio_codec: an encoder in PyAV; pcm_s16le keeps every sample, in .mov and .mkv.
        layout: channels of the sound.
        keyframes: pictures from one key picture to the next.
        piece: samples that are given to the encoder at once; with PCM, those of one packet.
        turn: (degrees counterclockwise, mirrored left-right, top-bottom) for the display matrix.
        options: of the container's writer, e.g. ``{"movflags": "faststart"}``.
    """
    with av.open(str(path), "w", options=options or {}) as container:
        video = audio = None
        if stamps:
            height, width = picture(0).shape[:2]
            rate = (len(stamps) - 1) / (stamps[-1] - stamps[0]) if len(stamps) > 1 else Fraction(25)
            rate = rate.limit_denominator(1001)
            h264 = video_codec == "libx264"
            settings = {"g": str(keyframes)} | ({"bf": "2"} if h264 else {})
            video = container.add_stream(video_codec, rate=rate, options=settings)
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
            # MPEG-2 and MPEG-4 count in pictures, not in ticks.
            tick = 1 / rate if video_codec.startswith("mpeg") else Fraction(1, TICK)
            video.time_base = video.codec_context.time_base = tick
            if turn is not None:
                video.set_display_rotation(*turn)
        if sounds:
            audio = container.add_stream(audio_codec, rate=SOUND_RATE_HZ, layout=layout)
            audio.time_base = Fraction(1, SOUND_RATE_HZ)
        packets = []
        if video is not None:
            for number, stamp in enumerate(stamps):
                frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
                frame.pts, frame.time_base = round(stamp / tick), tick
                packets += video.encode(frame)
            packets += video.encode(None)
        if audio is not None:
            for start, samples in sounds:
                for first in range(0, len(samples), piece):
                    part = np.ascontiguousarray(samples[first : first + piece]).reshape(1, -1)
                    frame = av.AudioFrame.from_ndarray(part, format="s16", layout=layout)
                    frame.sample_rate, frame.time_base = SOUND_RATE_HZ, Fraction(1, SOUND_RATE_HZ)
                    frame.pts = round(start * SOUND_RATE_HZ) + first
                    packets += audio.encode(frame)
            packets += audio.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)


def rising(fps: Fraction | int, seconds: int, start: Fraction = Fraction(0)) -> list[Fraction]:
    """Return the stamps of ``seconds`` of pictures at an even rate."""
    return [start + Fraction(k) / fps for k in range(int(seconds * fps))]


def ffmpeg(*arguments: str) -> bytes:
    """Run ffmpeg and return what it writes to its standard output."""
    command = [ffmpeg_program(), "-v", "error", "-nostdin", "-y", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
