"""What a figure shows of a clip below its curves: the mel-spectrogram of its sound, or a few of its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avfeat.clip import Clip
from avfeat.timeline import RATE_HZ, SOUND_RATE_HZ

BANDS = 80
_WINDOW, _HOP = 400, 160
_QUIETEST_DB = -80.0


@dataclass(frozen=True)
class Seen:
    """One clip's media.

    seconds: how long it is.
    mel: float64 [BANDS, steps] in dB below its loudest, one step each 10 ms from time 0; None without sound.
    pictures: seconds of a frame's middle to its picture, uint8 RGB [height, width, 3].
    """

    seconds: float
    mel: NDArray[np.float64] | None = None
    pictures: Sequence[tuple[float, NDArray[np.uint8]]] = field(default_factory=tuple)


def look(path: Path, clip_id: str, *, sound: bool, shares: Sequence[float] = ()) -> Seen:
    """Read one clip.

    Args:
        sound: whether its spectrogram is wanted.
        shares: where in the clip pictures are wanted, 0 its beginning to 1 its end.

    Raises:
        ClipError: it cannot be read, or lacks what is wanted.
    """
    with Clip(path, clip_id, pictures=bool(shares), sound=sound) as clip:
        frames = sum(len(block) for block in clip.blocks()) if shares else 0
        numbers = [min(int(share * frames), frames - 1) for share in shares]
        pictures: dict[int, NDArray[np.uint8]] = {}
        start = 0
        for block in clip.blocks() if shares else ():
            pictures |= {number: block[number - start].copy() for number in numbers if 0 <= number - start < len(block)}
            start += len(block)
        heard = clip.sound() if sound else np.zeros(0, np.float32)
    seconds = max(frames / RATE_HZ, len(heard) / SOUND_RATE_HZ)
    found = [((number + 0.5) / RATE_HZ, pictures[number]) for number in numbers]
    return Seen(seconds, mel_spectrogram(heard) if sound else None, found)


def mel_spectrogram(sound: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return float64 [BANDS, steps]: power in 25 ms windows each 10 ms, 0 Hz to 8 kHz, in dB below the loudest.

    Args:
        sound: float [samples] at 16 kHz.
    """
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    filters = mel_filter_bank(_WINDOW // 2 + 1, BANDS, 0.0, SOUND_RATE_HZ / 2, SOUND_RATE_HZ, mel_scale="htk")
    padded = np.pad(sound, (0, max(0, _WINDOW - len(sound))))
    power = spectrogram(
        padded, window_function(_WINDOW), _WINDOW, _HOP, power=2.0, mel_filters=filters, pad_mode="constant"
    )
    loudest = max(float(power.max()), 1e-10)
    decibels: NDArray[np.float64] = 10 * np.log10(np.maximum(power / loudest, 10 ** (_QUIETEST_DB / 10)))
    return decibels


def band_of(hertz: float) -> float:
    """Return where a frequency lies on the axis of bands, 0 to BANDS."""
    top = np.log10(1 + SOUND_RATE_HZ / 2 / 700)
    return float(BANDS * np.log10(1 + hertz / 700) / top)
