"""What encoders see of a clip: the whole picture, the upright face, the mouth; and what happens without a face."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from faces import astronaut, points_at, track_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from avfeat import crops
from avfeat.errors import LengthError, NoFaceError, UnreadableError
from avfeat.landmarks import Landmarker, Track, choose_track
from avfeat.views import FACE, FRAME, MOUTH, SOUND, TRACK, View, ViewMaker, ViewSettings, view_versions

RANDOM = np.random.default_rng(3)
CENTER = ViewSettings(on_no_face="center")


def _noise(frames: int, height: int = 240, width: int = 320) -> np.ndarray:
    return RANDOM.integers(0, 256, (frames, height, width, 3)).astype(np.uint8)


def _maker(
    track: Track | None, *views: View, how: ViewSettings | None = None, size: tuple[int, int] = (320, 240)
) -> ViewMaker:
    return ViewMaker(frozenset(views), how or ViewSettings(), track, "one", *size)


def _still(frames: int, x: float = 160, y: float = 120, size: float = 90) -> Track:
    return track_of(np.repeat(points_at(x, y, size)[None], frames, axis=0), 320, 240)


# ---- the whole picture


def _frame(picture: np.ndarray, fit: str, size: int = 224) -> np.ndarray:
    view = replace(FRAME, fit=fit, size_px=size)
    return _maker(None, view, size=picture.shape[1::-1]).make(picture[None], 0)[view][0]


@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
def test_squash_is_pillows_resize_of_both_sides(resample: str) -> None:
    view = replace(FRAME, resample=resample)
    pictures = _noise(2)
    made = _maker(None, view).make(pictures, 0)[view]
    wanted = Image.fromarray(pictures[1]).resize((224, 224), getattr(Image.Resampling, resample.upper()))
    np.testing.assert_array_equal(made[1], np.asarray(wanted))


# Long sides and offsets worked out by hand: int(224 * 641 / 360) = 398 and int((398 - 224) / 2) = 87, and so on.
@pytest.mark.parametrize(
    ("height", "width", "scaled", "left", "top"),
    [
        (360, 641, (398, 224), 87, 0),
        (301, 201, (224, 335), 0, 55),
        (224, 224, (224, 224), 0, 0),
        (72, 96, (298, 224), 37, 0),
    ],
)
def test_centre_rounds_as_the_stock_clip_processor_does(
    height: int, width: int, scaled: tuple[int, int], left: int, top: int
) -> None:
    picture = _noise(1, height, width)[0]
    whole = np.asarray(Image.fromarray(picture).resize(scaled, Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(_frame(picture, "centre"), whole[top : top + 224, left : left + 224])


def test_letterbox_keeps_the_whole_picture_between_black_bars() -> None:
    made = _frame(np.full((120, 320, 3), 200, np.uint8), "letterbox")
    assert (made[70:154] == 200).all() and (made[:70] == 0).all() and (made[154:] == 0).all()
    tall = _frame(np.full((320, 2, 3), 200, np.uint8), "letterbox")
    assert (tall[:, 111:112] == 200).all() and tall.sum() == 200 * 224 * 3


# ---- the face


def _dotted(points: np.ndarray, height: int, width: int, radius: float) -> np.ndarray:
    """Return a black picture with a soft white dot on each point; a pixel's centre is at whole numbers."""
    y, x = np.mgrid[:height, :width]
    dots = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / radius**2) for px, py in points)
    return np.repeat((255 * np.minimum(dots, 1)).astype(np.uint8)[..., None], 3, axis=2)


def _dot(view: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Return the place of the dot next to ``near``: the mean of the pixels around it, weighted by light."""
    x, y = np.round(near).astype(int)
    patch = view[y - 9 : y + 10, x - 9 : x + 10, 0].astype(float)
    rows, columns = np.mgrid[y - 9 : y + 10, x - 9 : x + 10]
    return np.array([(columns * patch).sum(), (rows * patch).sum()]) / patch.sum()


@pytest.mark.parametrize("face_px", [100, 172.3, 300], ids=["enlarged", "as it is", "shrunk"])
@pytest.mark.parametrize("degrees", [0, 17, -40, 170])
def test_the_face_comes_upright_in_the_middle_and_as_large_as_its_margin_says(face_px: float, degrees: float) -> None:
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points = points_at(0, 0, face_px).astype(np.float64) @ turn.T + (330.4, 300.8)
    # Pupils, chin and one temple: places that no rotation or mirroring of the square could exchange unseen.
    shown = [8, 16, 36, 45]
    picture = _dotted(points[shown], 600, 640, face_px / 30)
    track = track_of(points[None], 640, 600)
    view = _maker(track, FACE, size=(640, 600)).make(picture[None], 0)[FACE][0]
    # In the template the box runs from 0 to 1; margin 1.3 makes it 1 / 1.3 of the view's 224 pixels.
    wanted = (points_at(0, 0, 1)[shown] / 1.3 + 0.5) * 224 - 0.5
    for place in wanted:
        assert np.linalg.norm(_dot(view, place) - place) < 0.25


def test_an_upright_face_is_the_cut_square_resized_by_pillow() -> None:
    picture = _noise(1, 600, 640)[0]
    side = 260
    track = track_of(points_at(319.5, 299.5, side / 1.3)[None], 640, 600)
    made = _maker(track, FACE, size=(640, 600)).make(picture[None], 0)[FACE][0]
    square = Image.fromarray(picture).crop((190, 170, 450, 430))
    wanted = np.asarray(square.resize((224, 224), Image.Resampling.BICUBIC)).astype(int)
    # The landmarks' float32 places the square to 1e-5 of a pixel, hence one level; beside the square's border a
    # resize of the cut square has no neighbours to look at.
    assert np.abs(made[4:-4, 4:-4] - wanted[4:-4, 4:-4]).max() <= 1


@pytest.mark.parametrize("size", [60, 300])
def test_what_lies_outside_the_picture_is_black_in_face_and_mouth(size: float) -> None:
    track = _still(1, 0, 0, size)
    made = _maker(track, FACE, MOUTH).make(np.full((1, 240, 320, 3), 255, np.uint8), 0)
    face = made[FACE][0]
    assert (face[:108, :] == 0).all() and (face[:, :108] == 0).all() and (face[116:, 116:] == 255).all()
    far = _maker(_still(1, -900, 120, size), FACE, MOUTH).make(np.full((1, 240, 320, 3), 255, np.uint8), 0)
    assert not far[FACE].any() and not far[MOUTH].any()


def test_the_margin_scales_the_face() -> None:
    points = points_at(160, 120, 80)
    picture = _dotted(points[[8]], 240, 320, 3)
    for margin in (1.1, 1.6):
        view = _maker(_still(1, 160, 120, 80), FACE, how=ViewSettings(face_margin=margin)).make(picture[None], 0)[FACE][
            0
        ]
        chin = np.array([0.5, 0.5 + 0.5 / margin]) * 224 - 0.5
        assert np.linalg.norm(_dot(view, chin) - chin) < 0.25


def test_a_tilted_portrait_gives_an_upright_face_and_a_mouth_in_the_middle() -> None:
    tilted = np.asarray(Image.fromarray(astronaut()).rotate(25, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128)))
    with Landmarker() as landmarker:
        track = choose_track(landmarker.detect(tilted[None]), 320, 320)
        made = _maker(track, FACE, MOUTH, size=(320, 320)).make(tilted[None], 0)
        [[again]] = landmarker.detect(made[FACE])
    left, right = again.points[36:42].mean(axis=0), again.points[42:48].mean(axis=0)
    assert abs(math.degrees(math.atan2(*(right - left)[::-1]))) < 2
    low, high = again.points.min(axis=0), again.points.max(axis=0)
    np.testing.assert_allclose((low + high) / 2, [111.5, 111.5], atol=6)
    assert (high - low).max() == pytest.approx(224 / 1.3, rel=0.06)
    # She smiles: the corners of the mouth are the darkest places on either side, level and around the middle.
    corners = [
        np.argwhere(half == half.min()).mean(axis=0) for half in np.split(made[MOUTH][0][30:60, 12:84], 2, axis=1)
    ]
    (left_y, left_x), (right_y, right_x) = corners
    assert abs(left_y - right_y) < 4 and abs((left_y + right_y) / 2 + 30 - 47.5) < 7
    assert abs((left_x + right_x + 36) / 2 + 12 - 47.5) < 4


# ---- the mouth


def test_the_mouth_is_the_warped_window_in_grey() -> None:
    pictures = _noise(20)
    points = np.stack([points_at(150 + frame, 120 - frame / 2, 90 + frame) for frame in range(20)])
    made = _maker(track_of(points, 320, 240), MOUTH).make(pictures, 0)[MOUTH]
    transforms = crops.mouth_transforms(points)
    corners = crops.mouth_corners(points, transforms, 96)
    for frame in (0, 7, 19):
        colour = crops.warp_window(pictures[frame], crops.invert(transforms[frame]), corners[frame], 96)
        np.testing.assert_array_equal(made[frame], crops.grey(colour))


@pytest.mark.parametrize("view", [FACE, MOUTH], ids=str)
def test_a_cut_is_not_smoothed_over(view: View) -> None:
    pictures = _noise(30)
    points = np.stack(
        [points_at(80 + frame, 120, 60) if frame < 18 else points_at(240, 120, 80) for frame in range(30)]
    )
    both = _maker(track_of(points, 320, 240), view).make(pictures, 0)[view]
    alone = _maker(track_of(points[:18], 320, 240), view).make(pictures[:18], 0)[view]
    np.testing.assert_array_equal(both[:18], alone)


def test_a_clip_of_many_pieces_is_cut_as_one_of_a_single_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = _noise(40, 60, 80)
    track = track_of(np.stack([points_at(30 + frame / 3, 30, 30) for frame in range(40)]), 80, 60)
    views = replace(FACE, size_px=48), replace(MOUTH, size_px=32)
    whole = _maker(track, *views, size=(80, 60)).make(pictures, 0)
    whole_pieces = crops.pieces
    monkeypatch.setattr(crops, "pieces", lambda frames: whole_pieces(frames, 5))
    parts = _maker(track, *views, size=(80, 60)).make(pictures, 0)
    for view in views:
        np.testing.assert_array_equal(whole[view], parts[view])


# ---- blocks, failures


@settings(max_examples=8, deadline=None)
@given(st.sets(st.integers(1, 15)))
def test_blocks_of_any_size_give_the_same_views(cuts: set[int]) -> None:
    pictures = np.random.default_rng(5).integers(0, 256, (16, 60, 80, 3)).astype(np.uint8)
    track = track_of(np.stack([points_at(40 + frame, 30, 30) for frame in range(16)]), 80, 60)
    views = replace(FRAME, size_px=48), replace(FACE, size_px=48), replace(MOUTH, size_px=32)
    maker = _maker(track, *views, size=(80, 60))
    whole = maker.make(pictures, 0)
    edges = [0, *sorted(cuts), 16]
    parts = [maker.make(pictures[start:stop], start) for start, stop in pairwise(edges)]
    for view in views:
        np.testing.assert_array_equal(np.concatenate([part[view] for part in parts]), whole[view])


def test_shapes_are_those_that_the_views_promise() -> None:
    small = View("face", 64, "bilinear")
    made = _maker(_still(3), FRAME, FACE, small, MOUTH, SOUND, TRACK).make(_noise(3), 0)
    shapes = {view: (array.shape, str(array.dtype)) for view, array in made.items()}
    assert shapes == {
        FRAME: ((3, 224, 224, 3), "uint8"),
        FACE: ((3, 224, 224, 3), "uint8"),
        small: ((3, 64, 64, 3), "uint8"),
        MOUTH: ((3, 96, 96), "uint8"),
    }


def _without_face(frames: int = 20) -> Track:
    return track_of(np.full((frames, 68, 2), np.nan), 320, 240)


def test_without_a_face_the_face_views_fail_and_the_others_go_on() -> None:
    maker = _maker(_without_face(), FRAME, FACE, MOUTH)
    assert {view: type(error) for view, error in maker.failures.items()} == {FACE: NoFaceError, MOUTH: NoFaceError}
    assert str(maker.failures[MOUTH]) == "one: no face was found in any of its 20 frames."
    assert list(maker.make(_noise(20), 0)) == [FRAME]


def _gap(missing: int) -> Track:
    points = np.repeat(points_at(160, 120, 90)[None], 40, axis=0)
    points[10 : 10 + missing] = np.nan
    return track_of(points, 320, 240)


def test_a_stretch_without_a_face_fails_only_when_it_is_too_long() -> None:
    assert not _maker(_gap(12), FACE, MOUTH).failures
    failures = _maker(_gap(13), FACE, MOUTH).failures
    assert str(failures[FACE]) == "one: no face from 0.40 s to 0.92 s, more than the 0.5 s allowed."
    assert not _maker(_gap(25), FACE, MOUTH, how=CENTER).failures


def test_center_gives_the_middle_of_pictures_without_any_face() -> None:
    pictures = _noise(2, 241, 320)
    track = track_of(np.full((2, 68, 2), np.nan), 320, 241)
    made = _maker(track, FACE, MOUTH, how=CENTER, size=(320, 241)).make(pictures, 0)
    # (241 - 96) // 2 = 72 and (320 - 96) // 2 = 112: the reference's middle 88 x 88 lies 4 pixels further in.
    np.testing.assert_array_equal(made[MOUTH], crops.grey(pictures[:, 72:168, 112:208]))
    square = Image.fromarray(pictures[1, :, 39:280]).resize((224, 224), Image.Resampling.BICUBIC)
    inner = np.s_[4:-4, 4:-4]
    assert np.abs(made[FACE][1].astype(int) - np.asarray(square))[inner].max() <= 1


def test_center_refuses_pictures_smaller_than_the_mouth() -> None:
    track = track_of(np.full((2, 68, 2), np.nan), 96, 72)
    failures = _maker(track, FACE, MOUTH, how=CENTER, size=(96, 72)).failures
    assert list(failures) == [MOUTH]
    assert "96 x 72 pixels are smaller than the 96 x 96" in str(failures[MOUTH])


def test_more_pictures_than_the_track_has_frames_are_an_error_with_both_numbers() -> None:
    maker = _maker(_still(5), FACE)
    maker.make(_noise(5), 0)
    with pytest.raises(LengthError, match="one: at least 7 frames were decoded, its track has 5"):
        maker.make(_noise(3), 4)


def test_pictures_of_another_size_are_an_error() -> None:
    with pytest.raises(UnreadableError, match="one: pictures from frame 8 on are 100 x 50 pixels, not 320 x 240"):
        _maker(None, FRAME).make(_noise(1, 50, 100), 8)


@pytest.mark.parametrize("wrong", [{"on_no_face": "skip"}, {"face_margin": 0.0}, {"face_margin": math.nan}])
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ViewSettings(**wrong)  # type: ignore[arg-type]


def test_the_versions_that_decide_pixels_can_be_recorded() -> None:
    assert view_versions() == {"pillow": Image.__version__, "numpy": np.__version__}
