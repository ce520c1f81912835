"""Faces for tests: drawn ones with known landmarks, and the two portraits that ship inside other packages."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avfeat.landmarks import Face, Track

# 68 points in a box from (0, 0) to (1, 1), eyes level: enough of a face for everything that only does arithmetic.
_RANDOM = np.random.default_rng(7)
TEMPLATE = _RANDOM.uniform(0.2, 0.8, (68, 2))
TEMPLATE[[0, 8, 16, 19, 24]] = [[0.0, 0.3], [0.5, 1.0], [1.0, 0.3], [0.3, 0.0], [0.7, 0.0]]
TEMPLATE[36:42] = 0.3 + _RANDOM.uniform(-0.02, 0.02, (6, 2))
TEMPLATE[42:48] = TEMPLATE[36:42] + np.array([0.4, 0.0])
TEMPLATE[[33, 36, 39, 42, 45]] = [[0.5, 0.6], [0.2, 0.3], [0.4, 0.3], [0.6, 0.3], [0.8, 0.3]]
TEMPLATE[48:68] = [0.5, 0.75] + _RANDOM.uniform(-0.15, 0.15, (20, 2)) * [1.0, 0.4]


def points_at(x: float, y: float, size: float) -> NDArray[np.float32]:
    """Return 68 points whose tight box is a square of ``size`` pixels around (x, y)."""
    return ((TEMPLATE - 0.5) * size + (x, y)).astype(np.float32)


def face_at(x: float, y: float, size: float) -> Face:
    """Return a face with the points of ``points_at`` and blendshapes that say whose it is."""
    return Face(points_at(x, y, size), np.linspace(0, 1, 52, dtype=np.float32) * np.float32(size / 1000))


def track_of(points: NDArray[np.floating], width: int = 640, height: int = 480) -> Track:
    """Return the track with these points [T, 68, 2]; NaN is a frame without a face."""
    found = np.isfinite(points).all(axis=(1, 2))
    shapes = np.where(found[:, None], np.float32(0.5), np.float32(np.nan)) * np.ones(52, np.float32)
    return Track(points.astype(np.float32), shapes, found, found.astype(np.uint8), width, height)


@cache
def astronaut() -> NDArray[np.uint8]:
    """Return a square of 320 pixels with one face, uint8 RGB."""
    import skimage.data

    return np.ascontiguousarray(skimage.data.astronaut()[:320, 60:380])


@cache
def admiral() -> NDArray[np.uint8]:
    """Return a square of 320 pixels with another face, uint8 RGB."""
    import matplotlib.cbook

    with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")) as image:
        return np.array(image.convert("RGB").crop((96, 20, 416, 340)))
