"""The reference writes its mouths as a lossy video before it reads them: the same detour, for the same numbers."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avfeat.clip import Clip
from avfeat.crops import grey
from avfeat.errors import LengthError
from avfeat.media import write_video
from avfeat.timeline import RATE_HZ


def reencoded(mouths: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the mouths after x264 at CRF 20 in 4:4:4, as the reference's command line comes to.

    Args:
        mouths: uint8 RGB [T, height, width, 3], T ≥ 1.

    Returns:
        uint8 grey [T, height, width]. The loss is of the reference's size; to the pixel it depends on the version of
        the encoder.

    Raises:
        MediaError: ffmpeg cannot write it.
        LengthError: another number of pictures came back.
    """
    with tempfile.TemporaryDirectory(prefix="avfeat-mouth-") as folder:
        path = Path(folder) / "mouth.mp4"
        write_video(path, mouths, RATE_HZ, crf=20, pixel_format="yuv444p")
        with Clip(path, "the mouth video", sound=False) as clip:
            pictures = np.concatenate([grey(block) for block in clip.blocks()])
    if len(pictures) != len(mouths):
        raise LengthError(f"{len(mouths)} mouths were written as video and {len(pictures)} came back.")
    return pictures
