"""From a video to a map on its whole picture: places through every kind of view, and the encoder that was stored."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from faces import points_at, track_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import avfeat
from avfeat.cutters import PlacedCutter, cutter_of
from avfeat.encoders import resolve
from avfeat.errors import EncoderError, NoPicturesError
from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.media import write_video
from avfeat.options import Options
from avfeat.patches import PatchExplainer, PatchMap
from avfeat.run import extract
from avfeat.views import FACE, FACE_PLAIN, FRAME, View, ViewSettings
from tests.tiny_models import tiny_clip

WIDTH, HEIGHT = 320, 240


def cutter(view: View, x: float = 160.0, y: float = 120.0, size: float = 90.0, angle: float = 0.0) -> PlacedCutter:
    around = np.array([x, y])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = ((points_at(x, y, size) - around) @ turn.T + around).astype(np.float32)
    track = track_of(np.repeat(points[None], 3, axis=0), WIDTH, HEIGHT)
    found = cutter_of(view, ViewSettings(), track, "one")
    assert hasattr(found, "place")
    return found


@pytest.mark.parametrize("fit", ["squash", "centre", "letterbox"])
@pytest.mark.parametrize("kind", ["frame", "upright", "plain"])
def test_a_bright_spot_of_the_view_is_found_again_where_it_is_in_the_picture(kind: str, fit: str) -> None:
    view = {"frame": replace(FRAME, fit=fit), "upright": FACE, "plain": FACE_PLAIN}[kind]
    found = cutter(view, angle=0.3 if kind == "upright" else 0.0)
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[126:134, 140:148] = 255  # its middle is at (144, 130)
    seen = found.cut(picture, 1).astype(float).sum(axis=2)
    row, column = (np.indices(seen.shape) * seen).sum(axis=(1, 2)) / seen.sum() + 0.5
    x, y = found.place(WIDTH, HEIGHT, 1) @ [column, row, 1.0]
    assert abs(x - 144) < 0.4 and abs(y - 130) < 0.4


def plain_map(values: NDArray[np.float64], way: NDArray[np.float64], size: tuple[int, int] = (60, 80)) -> PatchMap:
    return PatchMap(0, 0.02, np.zeros((*size, 3), np.uint8), 0.0, values, {}, values, way, None)


def test_the_map_of_a_squashed_picture_has_its_values_at_the_middles_of_the_patches() -> None:
    values = np.arange(6.0).reshape(2, 3)
    found = plain_map(values, np.array([[21.0, 0, 0], [0, 21.0, 0]]), (42, 63))
    shown = found.on_frame(values)
    assert shown.shape == (42, 63)
    assert np.allclose(shown[10::21, 10::21], values)
    assert shown[0, 0] == values[0, 0] and shown[-1, -1] == values[-1, -1]
    assert shown[10, 20] == pytest.approx(10 / 21)


def test_what_the_encoder_did_not_see_has_no_heat() -> None:
    found = plain_map(np.full((2, 2), -3.0), np.array([[10.0, 0, 30], [0, 10.0, 20]]))
    shown = found.on_frame(np.full((2, 2), -3.0))
    assert (shown[20:40, 30:50] == -3).all() and np.count_nonzero(shown) == 400


def test_the_highest_patch_is_one_whose_middle_lies_in_the_picture() -> None:
    values = np.array([[9.0, 1.0], [2.0, 3.0]])
    inside = plain_map(values, np.array([[10.0, 0, 0], [0, 10.0, 0]]))
    assert inside.highest(values) == (5 / 80, 5 / 60)
    cut_off = plain_map(values, np.array([[10.0, 0, -8], [0, 10.0, -8]]))
    assert cut_off.highest(values) == (7 / 80, 7 / 60)


@settings(max_examples=40, deadline=None)
@given(st.floats(-3.1, 3.1), st.floats(0.5, 20), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_the_map_is_slow_bilinear_interpolation_and_the_highest_patch_is_its_highest_point(
    angle: float, scale: float, rows: int, columns: int, seed: int
) -> None:
    values = np.random.default_rng(seed).standard_normal((rows, columns))
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    way = np.array([[cosine, -sine, 8.0], [sine, cosine, 9.0]])
    found = plain_map(values, way, (17, 19))
    shown = found.on_frame(values)
    back = np.linalg.inv(np.vstack([way, [0, 0, 1]]))
    for y, x in ((0, 0), (9, 8), (16, 18), (3, 11)):
        column, row, _ = back @ [x + 0.5, y + 0.5, 1]
        right = 0.0
        if 0 <= column <= columns and 0 <= row <= rows:
            for r in range(rows):
                for c in range(columns):
                    near = max(0, 1 - abs(np.clip(row - 0.5, 0, rows - 1) - r))
                    right += values[r, c] * near * max(0, 1 - abs(np.clip(column - 0.5, 0, columns - 1) - c))
        assert shown[y, x] == pytest.approx(right, abs=1e-9)


# ---- a video, through the encoder that made a stored feature


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    root = tmp_path_factory.mktemp("patches")
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (8, 6, 8, 3)).astype(np.uint8)
    write_video(root / "talk.mp4", [np.asarray(Image.fromarray(each).resize((96, 64))) for each in pictures], 25)
    folder = tiny_clip(root / "clip", image_size=56)
    manifest = Manifest.from_rows([Row("talk", "talk.mp4")], DatasetInfo("one"))
    extract(manifest, root, [f"hf:{folder}"], root / "store", Options(device="cpu", workers=1, dtype="float32"))
    yield root, root / "talk.mp4"


def test_a_videos_highest_frame_is_explained_with_the_stored_features_own_encoder(extracted: tuple[Path, Path]) -> None:
    root, video = extracted
    group = avfeat.open_store(root / "store")["one"]
    weight = np.random.default_rng(3).standard_normal(32)
    rows = group["clip"].clip("talk").astype(float)
    scores = rows @ weight / np.linalg.norm(rows, axis=1) - 1.5
    explainer = PatchExplainer("clip", weight, -1.5, like=group["clip"].attributes, options=Options(device="cpu"))
    (found,) = explainer.explain(video)
    assert found.frame == scores.argmax() and found.seconds == pytest.approx((found.frame + 0.5) / 25)
    assert found.score == pytest.approx(scores.max(), abs=1e-4)
    assert found.shares.sum() + sum(found.rest.values()) == pytest.approx(scores.max(), abs=1e-4)
    assert found.picture.shape == (64, 96, 3) and found.shares.shape == (4, 4) and found.face is None
    assert np.allclose(found.way, [[24, 0, 0], [0, 16, 0]])
    both = explainer.explain(video, [6, 1])
    assert [each.frame for each in both] == [1, 6]
    assert [each.score for each in both] == pytest.approx(scores[[1, 6]], abs=1e-4)
    with pytest.raises(NoPicturesError, match="no frame 8"):
        explainer.explain(video, [1, 8])


def test_what_cannot_be_taken_apart_is_refused_with_the_reason(extracted: tuple[Path, Path]) -> None:
    root, _ = extracted
    like = avfeat.open_store(root / "store")["one"]["clip"].attributes
    with pytest.raises(EncoderError, match="32 wide"):
        PatchExplainer("clip", np.zeros(31), 0.0, like=like)
    with pytest.raises(EncoderError, match="CLIP, DINOv2 and FSFM only"):
        PatchExplainer("logmel", np.zeros(31), 0.0, like={"asked": {}} | _logmel())
    half = {**like, "asked": {**like["asked"], "dtype_compute": "bf16"}}
    with pytest.raises(EncoderError, match=r"computed in bf16.*--dtype-compute fp32"):
        PatchExplainer("clip", np.zeros(32), 0.0, like=half)


def _logmel() -> dict[str, object]:
    from avfeat.encoders import build_encoder
    from avfeat.provenance import feature_attributes

    (request,) = resolve(["logmel"])
    own = feature_attributes(build_encoder(request), request.wanted[0], ViewSettings())
    return own | {"asked": {"encoder": "logmel", "weights": None, "seed": None, "settings": {}}}
