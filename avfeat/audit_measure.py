"""What an audit measures of one clip: how its file was made, where its sound begins, and prints to know copies by."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avfeat.clip import Clip, Media
from avfeat.errors import ClipError
from avfeat.timeline import RATE_HZ

SILENCE = 5e-4
"""Largest magnitude of a sample of silence: AVH-Align trims until the first sample above it."""

SOUND_RATE_HZ = 16_000
SOUND_POINTS = 32
THUMB = 8
LOOKS = (0, 8, 16, 24)
"""Frames that a picture print looks at: the first second, so that no clip is decoded to its end for it."""

_SAMPLES_PER_FRAME = SOUND_RATE_HZ // RATE_HZ
_FLOOR_DB = -100.0
_STILL = 1.0
"""Grey levels: less motion than this is the coder's noise."""

Print = NDArray[np.float16]


@dataclass(frozen=True)
class Measures:
    """One clip; None is unknown, or not there.

    leading_silence_seconds: until the first sample above SILENCE; the whole sound if there is none.
    loudness_db: root mean square of the sound, in dB of full scale, at least -100.
    length_difference_seconds: end of the sound after the end of the pictures.
    """

    leading_silence_seconds: float | None = None
    duration_seconds: float | None = None
    fps: float | None = None
    pixels: float | None = None
    bitrate_kbps: float | None = None
    loudness_db: float | None = None
    length_difference_seconds: float | None = None
    audio_rate_hz: float | None = None
    video_codec: str | None = None
    audio_codec: str | None = None
    container: str | None = None
    sound: str | None = None


@dataclass(frozen=True)
class Prints:
    """What stays of a clip when it is compressed again: unit vectors; None where there is nothing to know it by.

    sound: float16 [32], loudness over the clip. still: float16 [64], the mean picture. motion: float16 [192], how the
    picture changes within the first second.
    """

    sound: Print | None = None
    still: Print | None = None
    motion: Print | None = None


MEASURES = tuple(field.name for field in fields(Measures))


def measure(path: Path, clip_id: str, *, prints: bool) -> tuple[Measures, Prints] | ClipError:
    """Return the measures of one file, and with ``prints`` its prints too; or why it cannot be decoded.

    Only the sound is decoded to its end, and for prints the first second of the pictures.
    """
    try:
        with Clip(path, clip_id, pictures=False) as clip:
            media = clip.media
            sound = clip.sound() if media.has_audio else None
        still, motion = _picture_prints(path, clip_id) if prints and media.has_video else (None, None)
        print_of_sound = sound_print(sound) if prints and sound is not None else None
        return _measures(path.stat().st_size, media, sound), Prints(print_of_sound, still, motion)
    except ClipError as error:
        return error


def leading_silence_seconds(sound: NDArray[np.float32]) -> float:
    """Return the time of the first sample above SILENCE in 16 kHz sound, the whole length where none is."""
    loud = np.flatnonzero(np.abs(sound) > SILENCE)
    return float(loud[0] if len(loud) else len(sound)) / SOUND_RATE_HZ


def loudness_db(sound: NDArray[np.float32]) -> float:
    """Return 20 log10 of the root mean square, at least -100; full scale is 1."""
    mean_square = float(np.mean(np.square(sound, dtype=np.float64))) if len(sound) else 0.0
    return max(10 * math.log10(mean_square), _FLOOR_DB) if mean_square > 0 else _FLOOR_DB


def sound_print(sound: NDArray[np.float32]) -> Print | None:
    """Return the loudness in dB of 32 equal stretches as a unit vector without mean; None for monotonous sound."""
    frames = len(sound) // _SAMPLES_PER_FRAME
    if frames < SOUND_POINTS // 2:
        return None
    energy = np.square(sound[: frames * _SAMPLES_PER_FRAME].reshape(frames, -1)).mean(axis=1)
    grid = np.linspace(0, frames, SOUND_POINTS + 1)
    summed = np.interp(grid, np.arange(frames + 1), np.concatenate([[0.0], np.cumsum(energy)]))
    # The floor keeps what a coder makes of silence from weighing as much as speech.
    level = np.log10(np.maximum(np.diff(summed) / np.diff(grid), 1e-6))
    return _unit(level, 0.05 * math.sqrt(SOUND_POINTS))


def _measures(size_bytes: int, media: Media, sound: NDArray[np.float32] | None) -> Measures:
    seconds = media.duration_seconds
    return Measures(
        leading_silence_seconds=None if sound is None else leading_silence_seconds(sound),
        duration_seconds=seconds,
        fps=media.fps,
        pixels=float(media.width * media.height) if media.width and media.height else None,
        bitrate_kbps=8 * size_bytes / seconds / 1000 if seconds else None,
        loudness_db=None if sound is None else loudness_db(sound),
        length_difference_seconds=None if sound is None else _length_difference(len(sound) / SOUND_RATE_HZ, media),
        audio_rate_hz=media.audio_rate_hz,
        video_codec=media.video_codec or None,
        audio_codec=media.audio_codec or None,
        container=media.container or None,
        sound="yes" if media.has_audio else "no",
    )


def _length_difference(sound_end: float, media: Media) -> float | None:
    if media.source_frames and media.fps:
        return sound_end - (media.video_start_seconds or 0.0) - media.source_frames / media.fps
    # Some containers do not count their pictures; what is longer than the sound must be the pictures.
    longest = media.duration_seconds if media.has_video else None
    return sound_end - longest if longest is not None and longest > sound_end else None


def _picture_prints(path: Path, clip_id: str) -> tuple[Print | None, Print | None]:
    thumbs = []
    with Clip(path, clip_id, sound=False, block_frames=1) as clip:
        for frame, block in enumerate(clip.blocks()):
            if frame in LOOKS:
                thumbs.append(_thumb(block[0]))
            if frame >= LOOKS[-1]:
                break
    # A clip of less than a second keeps its last look.
    thumbs += thumbs[-1:] * (len(LOOKS) - len(thumbs))
    looks = np.stack(thumbs)
    return _unit(looks.mean(axis=0).ravel(), _STILL * THUMB), _unit(
        np.diff(looks, axis=0).ravel(), _STILL * THUMB * math.sqrt(len(LOOKS) - 1), centre=False
    )


def _thumb(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the picture in grey, its mean over 8 x 8 fields."""
    height, width = picture.shape[:2]
    grey = picture.mean(axis=2)
    rows, columns = (np.arange(THUMB) * size // THUMB for size in (height, width))
    if min(height, width) < THUMB:
        return np.asarray(grey[np.ix_(rows, columns)])
    sums = np.add.reduceat(np.add.reduceat(grey, rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff([*rows, height]), np.diff([*columns, width]))
    return np.asarray(sums / counts)


def _unit(values: NDArray[np.float64], least: float, centre: bool = True) -> Print | None:
    """Return a vector of length 1, None where it is shorter than ``least`` to begin with."""
    values = values - values.mean() if centre else values
    length = float(np.linalg.norm(values))
    return (values / length).astype(np.float16) if length >= least else None
