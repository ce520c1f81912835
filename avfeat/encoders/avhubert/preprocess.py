"""What AV-HuBERT's network reads: mouths cut and normalised, sound as a stacked filterbank, silence left out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfeat.errors import EncoderError, TooShortError
from avfeat.timeline import RATE_HZ, SOUND_RATE_HZ

CROP_PX = 88
"""Side of the square that the network reads out of the middle of each mouth."""

_MEAN, _DEVIATION = 0.421, 0.165
_NORMALISED = ((np.arange(256) / 255 - _MEAN) / _DEVIATION).astype(np.float32)
"""What each grey level becomes: computed in float64, rounded once."""

SILENCE = 0.0005
"""Sound is silent as long as no sample's absolute value exceeds this, on a scale where 1 is the loudest."""


def central(mouths: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the middle of each picture, [T, 88, 88] out of [T, height, width]; odd rests leave one more pixel below.

    Raises:
        EncoderError: the pictures are smaller than that.
    """
    height, width = mouths.shape[1:]
    if min(height, width) < CROP_PX:
        raise EncoderError(f"AV-HuBERT reads {CROP_PX} x {CROP_PX} pixels; mouths of {width} x {height} are too small.")
    top, left = (height - CROP_PX) // 2, (width - CROP_PX) // 2
    return mouths[:, top : top + CROP_PX, left : left + CROP_PX]


def normalised(mouths: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the pictures as the network reads them: float32 (x / 255 - 0.421) / 0.165."""
    return _NORMALISED[mouths]


def silent_frames(sound: NDArray[Any]) -> int:
    """Return how many frames the reference's ``--trimmed`` drops from the start, as many times 640 samples with them.

    With s the time of the first sample that exceeds ``SILENCE``: none for s = 0, else int(25 s) + 1, in floating point
    as the reference has it: a first sample just below the threshold costs a frame.

    Args:
        sound: float [samples] at 16 kHz.

    Raises:
        TooShortError: no sample exceeds it.
    """
    loud = np.abs(sound) > SILENCE
    first = int(np.argmax(loud)) if len(loud) else 0
    if not len(loud) or not loud[first]:
        raise TooShortError(f"no sample of its sound exceeds {SILENCE}, so nothing is left when silence is trimmed.")
    return int(first / SOUND_RATE_HZ * RATE_HZ) + 1 if first else 0
