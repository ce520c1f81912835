"""dlib's landmarks as AV-HuBERT's preprocessing has them: for the very crops of the paper; MediaPipe is the default.

The last face that dlib lists in a frame wins, with no regard to the frames before. dlib lists faces by its confidence,
the best first, so this is the weakest one: the reference has it so.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfeat.crops import grey
from avfeat.errors import SetupError, WeightsError
from avfeat.landmarks import Landmarker, Track
from avfeat.landmarks_model import BLENDSHAPES, POINTS, Face
from avfeat.weights import recorded_sha256

PREDICTOR_NAME = "shape_predictor_68_face_landmarks.dat"
PREDICTOR_SHA256 = "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f"
PREDICTOR_LICENCE = "dlib's 68 points: the data that they were trained on exclude commercial use"

_UPSAMPLINGS = 1
_INSTALL = "install both with pip install 'avfeat[dlib]'"


class DlibLandmarker:
    """dlib's frontal face detector, once enlarged, and its 68 points, picture by picture; used as ``Landmarker`` is.

    Raises:
        SetupError: dlib or its model is not installed.
        WeightsError: the model is another file.
    """

    def __init__(self) -> None:
        predictor = find_predictor()
        dlib = _dlib()
        self._detector: Any = dlib.get_frontal_face_detector()
        self._predictor: Any = dlib.shape_predictor(str(predictor))

    def __enter__(self) -> DlibLandmarker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing to free: dlib holds neither threads nor files."""

    def detect(self, pictures: NDArray[np.uint8]) -> list[list[Face]]:
        """Return the faces of each picture in dlib's order, points in whole pixels, blendshapes all 0.

        Args:
            pictures: uint8 RGB [n, height, width, 3].
        """
        return [self._detect_one(np.ascontiguousarray(grey(picture))) for picture in pictures]

    def _detect_one(self, picture: NDArray[np.uint8]) -> list[Face]:
        shapes = [self._predictor(picture, box) for box in self._detector(picture, _UPSAMPLINGS)]
        return [
            Face(
                np.array([(shape.part(k).x, shape.part(k).y) for k in range(POINTS)], np.float32),
                np.zeros(BLENDSHAPES, np.float32),
            )
            for shape in shapes
        ]


AnyLandmarker = Landmarker | DlibLandmarker


def choose_last(faces_per_frame: Sequence[Sequence[Face]], width_px: int, height_px: int) -> Track:
    """Return the last face of each frame as the track, NaN where there is none."""
    count = len(faces_per_frame)
    points = np.full((count, POINTS, 2), np.nan, np.float32)
    blendshapes = np.full((count, BLENDSHAPES), np.nan, np.float32)
    faces = np.array([len(each) for each in faces_per_frame], np.uint8)
    for frame, seen in enumerate(faces_per_frame):
        if seen:
            points[frame], blendshapes[frame] = seen[-1].points, seen[-1].blendshapes
    return Track(points, blendshapes, faces > 0, faces, width_px, height_px)


def dlib_version() -> str:
    """Return the version of dlib, whichever package it came with.

    Raises:
        SetupError: it is not installed.
    """
    return str(_dlib().__version__)


def _dlib() -> Any:
    try:
        import dlib
    except ImportError as error:
        raise SetupError(f"landmarks by dlib need dlib-bin, which is missing ({error}): {_INSTALL}.") from error
    return dlib


def find_predictor() -> Path:
    """Return dlib's 68-point model in the package face_recognition_models, which is not imported for it.

    Raises:
        SetupError: that package is not installed.
        WeightsError: the file is missing from it, or another one.
    """
    package = find_spec("face_recognition_models")
    if package is None or not package.submodule_search_locations:
        raise SetupError(f"landmarks by dlib need its model, in the package face-recognition-models: {_INSTALL}.")
    path = Path(package.submodule_search_locations[0]) / "models" / PREDICTOR_NAME
    found = recorded_sha256(path)
    if found != PREDICTOR_SHA256:
        raise WeightsError(f"{path} has sha256 {found}, not {PREDICTOR_SHA256}: reinstall face-recognition-models.")
    return path
