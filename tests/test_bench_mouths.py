"""What the comparison of mouth crops counts, on faces whose distance is known."""

import numpy as np
import pytest

from avfeat import crops
from avfeat.landmarks import Track
from bench.mouths import Seen, apart, cosines, levels
from tests.faces import points_at, track_of


def still(x: float, y: float, size: float = 120.0) -> Track:
    return track_of(np.repeat(points_at(x, y, size)[None], 20, axis=0), 320, 240)


def seen(ours: Track, dlib: Track) -> Seen:
    return Seen("one", np.zeros((20, 240, 320, 3), np.uint8), ours, dlib)


def test_the_same_landmarks_are_nowhere_apart() -> None:
    assert apart(seen(still(150, 110), still(150, 110))).tolist() == pytest.approx([0] * 20, abs=1e-9)


def test_a_face_seen_five_pixels_off_is_as_far_off_in_the_crop_as_its_scale_says_and_rounding_adds() -> None:
    ours, theirs = still(150, 110), still(153, 114)
    scale = np.linalg.norm(crops.mouth_transforms(ours.points)[0, 0, :2])
    assert apart(seen(ours, theirs)) == pytest.approx([5 * scale] * 20, abs=1)


def test_mouths_of_one_track_are_cut_in_grey_and_in_colour() -> None:
    both = seen(still(150, 110), still(150, 110))
    grey, colour = both.mouths(both.ours)
    assert grey.shape == (20, 96, 96) and colour.shape == (20, 96, 96, 3)


def test_cosines_are_those_of_rows_and_levels_those_of_bytes() -> None:
    one = np.array([[1.0, 0.0], [2.0, 2.0]], np.float32)
    assert cosines(one, np.array([[0.0, 3.0], [-1.0, -1.0]], np.float32)).tolist() == pytest.approx([0, -1])
    assert levels(np.full((1, 2, 2), 3, np.uint8), np.full((1, 2, 2), 250, np.uint8)) == 247
