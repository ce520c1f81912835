"""Pictures in, landmarks out: find the faces, choose the one to follow, fill short gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Track:
    """The followed face's landmarks over a clip, one row for each frame of the 25 Hz timeline.

    points: float32 [T, 68, 2], (x, y) in pixels of the displayed picture, in dlib's order; NaN where no face is.
    blendshapes: float32 [T, 52], MediaPipe's coefficients in 0..1; NaN where no face is.
    found: bool [T], whether the landmarker saw the followed face in this very frame.
    faces: uint8 [T], how many faces the landmarker saw.
    width_px, height_px: size of the displayed picture.
    """

    points: NDArray[np.float32]
    blendshapes: NDArray[np.float32]
    found: NDArray[np.bool_]
    faces: NDArray[np.uint8]
    width_px: int
    height_px: int
