"""The geometry of crops: against the reference's own tensors, and against arithmetic done the slow way."""

from pathlib import Path

import numpy as np
import pytest
from faces import points_at, track_of
from golden import HERE, more_folders
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from avfeat import crops
from avfeat.landmarks import fill_gaps

FILE = "crop_io.safetensors"


def _check_crops(path: Path) -> None:
    tensors = load_file(path)
    target = tensors["mean_face"][list(crops.STABLE)]
    for name in (name for name in tensors if name.endswith(".roi")):
        # ``fewer_landmarks`` is the set ``main`` after the last landmarks are lost.
        clip = name.removesuffix(".roi") if name != "fewer_landmarks.roi" else "main"
        wanted = tensors[name]
        index = tensors.get(f"{clip}.frame_index", np.arange(len(wanted)))
        points = tensors.get(f"{clip}.landmarks_interp", tensors.get(f"{clip}.landmarks"))
        points = points[: len(wanted)] if name == "fewer_landmarks.roi" else points
        transforms = crops.mouth_transforms(points, target)
        if clip != "main" or name == "main.roi":
            known = tensors.get(f"{clip}.transforms", np.empty((0, 3, 3)))
            np.testing.assert_allclose(transforms[: len(known)], known[:, :2], atol=1e-9)
        inverses = crops.invert(transforms)
        corners = crops.mouth_corners(points, transforms, 96)
        pictures = tensors[f"{clip}.frames_bgr"]
        ours = np.stack(
            [crops.warp_window(pictures[k], inverses[i], corners[i], 96) for k, i in enumerate(index[: len(wanted)])]
        )
        difference = np.abs(ours.astype(int) - wanted[: len(ours)])
        assert len(ours) == len(wanted)
        assert difference.max() <= 1, name
        assert (difference > 0).mean() < 1e-4, name


def _check_filling(path: Path) -> None:
    tensors = load_file(path)
    raw = np.where(tensors["main.valid"][:, None, None] == 1, tensors["main.landmarks_raw"], np.nan)
    filled = fill_gaps(track_of(raw))
    np.testing.assert_allclose(filled.points, tensors["main.landmarks_interp"], atol=1e-4)


@pytest.mark.parametrize("folder", [HERE / "avhubert", *more_folders(FILE)], ids=str)
def test_mouth_crops_are_those_of_the_reference(folder: Path) -> None:
    _check_crops(folder / FILE)


@pytest.mark.parametrize("folder", [HERE / "avhubert", *more_folders(FILE)], ids=str)
def test_gaps_are_filled_as_the_reference_fills_them(folder: Path) -> None:
    _check_filling(folder / FILE)


@pytest.mark.shared
def test_the_whole_golden_set_agrees(shared: Path) -> None:
    path = shared / "golden" / "avhubert" / FILE
    _check_crops(path)
    _check_filling(path)
    tensors = load_file(path)
    pictures, transform = tensors["main.frames_bgr"], tensors["main.transforms"][0, :2]
    whole = crops.warp_window(pictures[0], crops.invert(transform), np.array([0, 0]), 256)
    np.testing.assert_array_equal(whole, tensors["main.warped_first"])


def test_grey_is_opencvs() -> None:
    tensors = load_file(HERE / "avhubert" / FILE)
    np.testing.assert_array_equal(crops.grey(tensors["grey.bgr"][..., ::-1]), tensors["grey.grey"])
    primary = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], np.uint8)
    assert crops.grey(primary).tolist() == [76, 150, 29, 255]


def test_the_mean_looks_forward_and_the_last_frames_share_the_last_full_one() -> None:
    assert crops.forward_mean(np.array([[0.0], [3.0], [6.0], [0.0]]), window=3).ravel().tolist() == [3, 3, 3, 3]
    assert crops.forward_mean(np.arange(5.0)[:, None], window=2).ravel().tolist() == [0.5, 1.5, 2.5, 3.5, 3.5]
    assert crops.forward_mean(np.array([[1.0], [3.0]]), window=12).ravel().tolist() == [2, 2]


@given(st.integers(1, 60), st.integers(1, 30))
def test_smoothing_a_long_clip_in_pieces_changes_no_bit(frames: int, size: int) -> None:
    points = np.random.default_rng(frames).uniform(0, 100, (frames, 3))
    smooth = [crops.forward_mean(points[piece])[:keep] for piece, keep in crops.pieces(frames, size)]
    np.testing.assert_array_equal(np.concatenate(smooth), crops.forward_mean(points))


@given(st.integers(0, 1000))
def test_a_similarity_is_found_again(seed: int) -> None:
    random = np.random.default_rng(seed)
    angle, scale, shift = random.uniform(-3, 3), random.uniform(0.1, 9), random.uniform(-99, 99, 2)
    wanted = np.column_stack(
        [scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]), shift]
    )
    source = random.uniform(0, 100, (5, 2))
    np.testing.assert_allclose(crops.similarity(source, crops.apply(wanted, source)), wanted, atol=1e-8)


@given(st.integers(0, 1000))
def test_a_similarity_is_the_least_squares_one(seed: int) -> None:
    random = np.random.default_rng(seed)
    source, target = random.uniform(0, 100, (5, 2)), random.uniform(0, 100, (5, 2))
    # x' = a x - b y + c and y' = b x + a y + d, solved as linear equations in a, b, c, d.
    zero, one = np.zeros(5), np.ones(5)
    rows = np.concatenate(
        [
            np.column_stack([source[:, 0], -source[:, 1], one, zero]),
            np.column_stack([source[:, 1], source[:, 0], zero, one]),
        ]
    )
    a, b, c, d = np.linalg.lstsq(rows, target.T.ravel(), rcond=None)[0]
    np.testing.assert_allclose(crops.similarity(source, target), [[a, -b, c], [b, a, d]], atol=1e-8)


def test_points_in_one_place_give_scale_zero() -> None:
    assert crops.similarity(np.ones((5, 2)), crops.MEAN_FACE)[:, :2].tolist() == [[0, 0], [0, 0]]


def _slow_warp(picture: np.ndarray, inverse: np.ndarray, corner: tuple[int, int], size: int) -> np.ndarray:
    height, width = picture.shape[:2]

    def at(row: int, column: int) -> np.ndarray:
        return picture[row, column] / 255.0 if 0 <= row < height and 0 <= column < width else np.zeros(3)

    out = np.empty((size, size, 3), np.uint8)
    for j in range(size):
        for i in range(size):
            x = inverse[0, 0] * (corner[0] + i) + inverse[0, 1] * (corner[1] + j) + inverse[0, 2]
            y = inverse[1, 0] * (corner[0] + i) + inverse[1, 1] * (corner[1] + j) + inverse[1, 2]
            left, top = int(np.floor(x)), int(np.floor(y))
            dx, dy = x - left, y - top
            upper = (1 - dx) * at(top, left) + dx * at(top, left + 1)
            lower = (1 - dx) * at(top + 1, left) + dx * at(top + 1, left + 1)
            out[j, i] = (((1 - dy) * upper + dy * lower) * 255.0).astype(np.uint8)
    return out


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.floats(-3.2, 3.2),
    st.floats(0.1, 6),
    st.tuples(st.floats(-40, 40), st.floats(-40, 40)),
    st.tuples(st.integers(1, 12), st.integers(1, 15)),
)
def test_a_window_is_warped_as_one_would_do_it_pixel_by_pixel(
    seed: int, angle: float, scale: float, shift: tuple[float, float], size: tuple[int, int]
) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    inverse = np.array([[cosine, -sine, shift[0]], [sine, cosine, shift[1]]])
    ours = crops.warp_window(picture, inverse, np.array([3, -2]), 7)
    np.testing.assert_array_equal(ours, _slow_warp(picture, inverse, (3, -2), 7))


def test_the_mouth_window_stays_on_the_canvas_and_rounds_half_to_even() -> None:
    still = np.broadcast_to(np.array([[1.0, 0, 0], [0, 1, 0]]), (4, 2, 3))
    points = np.zeros((4, 68, 2))
    points[:, 48:] = np.array([[10.0, 250], [100.5, 101.5], [47, 209], [-500, 900]])[:, None]
    assert crops.mouth_corners(points, still, 96).tolist() == [[0, 160], [52, 54], [0, 160], [0, 160]]


def _square(points: np.ndarray) -> tuple[np.ndarray, float, float]:
    centres, sides, angles = crops.face_squares(points, 1.3)
    return centres[0], float(sides[0]), float(angles[0])


def test_the_face_square_is_margin_times_the_tight_box() -> None:
    centre, side, angle = _square(np.repeat(points_at(200, 100, 80)[None], 3, axis=0))
    np.testing.assert_allclose(centre, [200, 100], atol=1e-3)
    assert side == pytest.approx(1.3 * 80, abs=1e-3)
    assert angle == pytest.approx(0, abs=1e-5)


@given(st.floats(-3.1, 3.1))
def test_the_face_square_turns_with_the_face(angle: float) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (points_at(0, 0, 80).astype(np.float64) @ turn.T + [200, 100])[None]
    centre, side, found = _square(points)
    np.testing.assert_allclose(centre, [200, 100], atol=1e-3)
    assert side == pytest.approx(1.3 * 80, abs=1e-3)
    assert found == pytest.approx(angle, abs=1e-4)


def test_an_opening_mouth_shakes_the_face_square_little_and_a_moving_head_takes_it_along() -> None:
    still = np.repeat(points_at(200, 100, 80)[None].astype(np.float64), 30, axis=0)
    talking = still.copy()
    talking[15, 8] += [0, 12]
    centres = crops.face_squares(talking, 1.3)[0]
    assert np.abs(np.diff(centres, axis=0)).max() <= 12 / crops.WINDOW / 2 + 1e-9
    moving = still + np.linspace(0, 90, 30)[:, None, None] * [1, 0.5]
    np.testing.assert_allclose(
        crops.face_squares(moving, 1.3)[0], moving.mean(axis=1) - still.mean(axis=1) + [200, 100], atol=1e-3
    )
