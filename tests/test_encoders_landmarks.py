import numpy as np
import pytest
from numpy.typing import NDArray

from avfeat.crops import MEAN_FACE, STABLE
from avfeat.encoders import build_encoder, resolve
from avfeat.encoders.base import Rows
from avfeat.encoders.landmarks import normalised_points
from avfeat.errors import NoFaceError
from avfeat.landmarks import Track
from avfeat.views import Views


def _face(seed: int = 0) -> NDArray[np.float64]:
    """68 points around the mean face, its five stable points exact."""
    points = MEAN_FACE.mean(axis=0) + 40 * np.random.default_rng(seed).standard_normal((68, 2))
    points[list(STABLE)] = MEAN_FACE
    return points


def _track(points: NDArray[np.float64], unseen: slice = slice(0, 0)) -> Track:
    frames = len(points)
    shapes = np.random.default_rng(1).random((frames, 52)).astype(np.float32)
    found = np.ones(frames, bool)
    points, found[unseen] = points.astype(np.float32), False
    points[unseen], shapes[unseen] = np.nan, np.nan
    return Track(points, shapes, found, found.astype(np.uint8), 640, 480)


def _rows(track: Track) -> Rows:
    encoder = build_encoder(*resolve(["landmarks"]))
    encoding = encoder.begin()
    encoding.take(Views(track=track))
    (rows,) = encoding.finish(encoder.wanted).values()
    assert isinstance(rows, np.ndarray)
    return rows


def test_where_the_head_is_how_large_and_how_tilted_does_not_matter() -> None:
    face = _face()
    angle, scale, shift = 0.4, 2.5, np.array([300.0, -20.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = face @ turn.T + shift
    both = normalised_points(np.stack([face, moved]).astype(np.float32))
    assert np.abs(both[0] - both[1]).max() < 1e-5


def test_the_unit_is_the_distance_between_the_eyes_corners_and_the_origin_lies_between_them() -> None:
    (points,) = normalised_points(_face()[None].astype(np.float32))
    left, right = points[36], points[45]
    assert np.linalg.norm(right - left) == pytest.approx(1, abs=1e-6)
    assert np.abs(left + right).max() < 1e-6
    assert right[0] > 0.49


def test_an_opening_mouth_moves_the_lips_and_nothing_else() -> None:
    points = np.repeat(_face()[None], 5, axis=0)
    points[3:, 57, 1] += 10  # the lower lip, from frame 3 on
    rows = _rows(_track(points))
    shape, motion, shapes = rows[:, :136], rows[:, 136:272], rows[:, 272:]
    assert rows.shape == (5, 324)
    unit = np.linalg.norm(MEAN_FACE[STABLE.index(45)] - MEAN_FACE[STABLE.index(36)])
    assert shape[3, 2 * 57 + 1] - shape[2, 2 * 57 + 1] == pytest.approx(10 / unit, abs=1e-5)
    assert motion[3, 2 * 57 + 1] == pytest.approx(10 / unit, abs=1e-5)
    motion[3, 2 * 57 + 1] = 0
    assert np.abs(motion).max() < 1e-6
    assert np.array_equal(shapes, _track(points).blendshapes)


def test_a_short_gap_is_filled_and_a_long_one_is_a_failed_clip() -> None:
    points = np.repeat(_face()[None], 40, axis=0)
    assert np.isfinite(_rows(_track(points, slice(10, 22)))).all()
    with pytest.raises(NoFaceError):
        _rows(_track(points, slice(10, 24)))
