"""Mouths in colour: AV-HuBERT's crop without its grey, and the crop that Auto-AVSR was trained with."""

import numpy as np
import pytest
from faces import track_of

from avfeat import crops
from avfeat.views import MOUTH, MOUTH_COLOUR, MOUTH_STEADY, View, ViewMaker, ViewSettings
from tests.test_views import _noise, _still

# All 68 points of a face whose stable ones lie where the mean face has them.
FACE = np.random.default_rng(3).uniform(90, 170, (68, 2))
FACE[list(crops.STEADY)] = crops.STEADY_MEAN_FACE
FACE[49:54] = [130, 155]
FACE[55:68] = [130, 158]


def turned(points: np.ndarray, scale: float, angle: float, shift: tuple[float, float]) -> np.ndarray:
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    return points @ np.array([[cosine, sine], [-sine, cosine]]) + shift


def test_colour_is_the_grey_mouth_before_its_grey() -> None:
    track, pictures = _still(5, 160, 120, 90.0), _noise(5)
    maker = ViewMaker(frozenset({MOUTH, MOUTH_COLOUR}), ViewSettings(), track, "one", 320, 240)
    made = maker.make(pictures, 0)
    assert made[MOUTH_COLOUR].shape == (5, 96, 96, 3)
    np.testing.assert_array_equal(crops.grey(made[MOUTH_COLOUR]), made[MOUTH])


@pytest.mark.parametrize("view", [MOUTH_COLOUR, MOUTH_STEADY])
def test_without_a_face_the_middle_stands_for_the_mouth_in_colour_too(view: View) -> None:
    pictures = _noise(2)
    nobody = track_of(np.full((2, 68, 2), np.nan), 320, 240)
    made = ViewMaker(frozenset({view}), ViewSettings(on_no_face="center"), nobody, "one", 320, 240).make(pictures, 0)
    np.testing.assert_array_equal(made[view], pictures[:, 72:168, 112:208])


def test_the_steady_transform_brings_the_face_back_to_the_mean_face() -> None:
    points = np.stack([turned(FACE, 1.7, 0.2, (40 + 3 * t, 25 - t)) for t in range(9)])
    smooth, transforms = crops.steady_transforms(points)
    np.testing.assert_allclose(
        crops.apply(transforms, smooth)[:, list(crops.STEADY)], crops.STEADY_MEAN_FACE[None].repeat(9, 0), atol=1e-6
    )


def test_one_point_far_off_does_not_move_the_steady_transform() -> None:
    points = turned(FACE, 1.3, -0.1, (50, 60))[None].repeat(3, 0)
    _, right = crops.steady_transforms(points)
    off = points.copy()
    off[:, 54] += (0, 45)
    off[:, 0] -= (0, 45)  # the middle of all points stays where it was
    _, found = crops.steady_transforms(off)
    np.testing.assert_allclose(found, right, atol=1e-9)
    least_squares = crops.similarity(off[:, list(crops.STEADY)], crops.STEADY_MEAN_FACE)
    assert np.abs(crops.apply(least_squares, off) - crops.apply(right, off)).max() > 2


def test_the_centred_mean_shrinks_towards_the_ends() -> None:
    values = np.arange(30.0)[:, None] ** 2
    found = crops.centred_mean(values)[:, 0]
    for i in range(30):
        reach = min(6, i, 29 - i)
        assert found[i] == pytest.approx(values[i - reach : i + reach + 1].mean())
    assert crops.centred_mean(np.array([[3.0]])).tolist() == [[3.0]]


def test_the_steady_mouth_is_the_warped_window_in_colour() -> None:
    points = np.stack([turned(FACE, 0.6, 0.1, (60 + t, 40)) for t in range(20)]).astype(np.float32)
    pictures = _noise(20)
    made = ViewMaker(frozenset({MOUTH_STEADY}), ViewSettings(), track_of(points, 320, 240), "one", 320, 240).make(
        pictures, 0
    )[MOUTH_STEADY]
    smooth, transforms = crops.steady_transforms(points)
    for t in (0, 11, 19):
        middle = crops.apply(transforms[t], smooth[t, 48:]).mean(axis=0)
        corner = np.rint(middle).astype(np.int64) - 48
        window = crops.warp_window(pictures[t], crops.invert(transforms[t]), corner, 96)
        np.testing.assert_array_equal(made[t], window)
