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
        mouths: uint8 [T, height, width], grey, T ≥ 1. The reference writes them in colour and reads grey out of that,
            with its own ffmpeg: the loss is of the same size, its pattern is not the same to the pixel.

    Returns:
        uint8, the shape of ``mouths``.

    Raises:
        MediaError: ffmpeg cannot write it.
        LengthError: another number of pictures came back.
    """
    with tempfile.TemporaryDirectory(prefix="avfeat-mouth-") as folder:
        path = Path(folder) / "mouth.mp4"
        write_video(
            path, (np.repeat(each[..., None], 3, axis=2) for each in mouths), RATE_HZ, crf=20, pixel_format="yuv444p"
        )
        with Clip(path, "the mouth video", sound=False) as clip:
            pictures = np.concatenate([grey(block) for block in clip.blocks()])
    if pictures.shape != mouths.shape:
        raise LengthError(f"{len(mouths)} mouths were written as video and {len(pictures)} came back.")
    return pictures
