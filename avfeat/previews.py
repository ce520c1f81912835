"""A small copy of a clip for a page: its pictures on the 25 Hz timeline and its sound, so that times there are ours."""

from __future__ import annotations

import io
import tempfile
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avfeat.clip import Clip
from avfeat.errors import NoPicturesError
from avfeat.media import write_video
from avfeat.timeline import RATE_HZ, SOUND_RATE_HZ

PEAKS_HZ = 50
"""Bars of the waveform per second: two to a frame."""

MOST_SECONDS = 120.0
"""A page of a few clips stays small enough to be mailed."""

_CRF = 30


@dataclass(frozen=True)
class Preview:
    """What a browser plays and a page draws; its time 0 is the clip's.

    kind: ``video/mp4``, or ``audio/wav`` for a clip without pictures.
    peaks: float32 [n], the largest magnitude of the sound in each 1/50 s, 0 to 1; empty without sound.
    whole: False where the clip goes on after ``seconds``.
    """

    kind: str
    data: bytes
    seconds: float
    peaks: NDArray[np.float32]
    whole: bool


def preview(path: Path, *, height_px: int = 240, most_seconds: float = MOST_SECONDS) -> Preview:
    """Return a small copy of a media file that every browser plays.

    Args:
        path: the file.
        height_px: pictures higher than this are scaled down.
        most_seconds: what comes later is left out.

    Raises:
        ClipError: the file cannot be read, or holds neither pictures nor sound.
        MediaError: the copy cannot be written.
        SetupError: there is no ffmpeg.
    """
    with Clip(path, path.name, block_frames=8) as clip:
        if not (clip.media.has_video or clip.media.has_audio):
            raise NoPicturesError(f"{path.name}: the file has neither pictures nor sound.")
        sound = clip.sound() if clip.media.has_audio else np.zeros(0, np.float32)
        most_samples = round(most_seconds * SOUND_RATE_HZ)
        heard = sound[:most_samples]
        whole = len(sound) <= most_samples
        if not clip.media.has_video:
            return Preview("audio/wav", _wav(heard), len(heard) / SOUND_RATE_HZ, _peaks(heard), whole)
        pictures = _Small(clip, height_px, round(most_seconds * RATE_HZ))
        with tempfile.TemporaryDirectory(prefix="avfeat-preview-") as folder:
            target = Path(folder) / "preview.mp4"
            write_video(target, pictures, RATE_HZ, heard if len(heard) else None, SOUND_RATE_HZ, crf=_CRF)
            data = target.read_bytes()
        seconds = max(pictures.count / RATE_HZ, len(heard) / SOUND_RATE_HZ)
        return Preview("video/mp4", data, seconds, _peaks(heard), whole and pictures.whole)


class _Small:
    """The first pictures of a clip, scaled down to even sides, one by one; counts them."""

    def __init__(self, clip: Clip, height_px: int, most: int):
        self._clip, self._height_px, self._most = clip, height_px, most
        self.count = 0
        self.whole = True

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for picture in chain.from_iterable(self._clip.blocks()):
            if self.count == self._most:
                self.whole = False
                return
            self.count += 1
            yield self._scaled(picture)

    def _scaled(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = picture.shape[:2]
        share = min(1.0, self._height_px / height)
        # yuv420p, the only format that every browser decodes, has one colour for two by two pixels.
        size = (max(2, 2 * round(width * share / 2)), max(2, 2 * round(height * share / 2)))
        return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))


def _wav(sound: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SOUND_RATE_HZ)
        file.writeframes(np.clip(np.rint(sound * 32768), -32768, 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def _peaks(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    step = SOUND_RATE_HZ // PEAKS_HZ
    padded = np.pad(np.abs(sound), (0, -len(sound) % step))
    peaks: NDArray[np.float32] = padded.reshape(-1, step).max(1).astype(np.float32)
    return peaks
