"""Clip and track in, what each encoder wants to see out: sound, whole frame, face, mouth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from avfeat.errors import ClipError, LengthError, UnreadableError

if TYPE_CHECKING:
    from avfeat.cutters import Cutter
    from avfeat.landmarks import Track


@dataclass(frozen=True, order=True)
class View:
    """What an encoder wants to see of a clip; a value, so that encoders that agree share the work.

    ``sound`` is float32 [samples] at 16 kHz; ``track`` the followed face's landmarks; ``frame`` and ``face``
    are uint8 RGB [frames, size, size, 3]; ``mouth`` is uint8 grey [frames, size, size], or with a ``recipe`` RGB
    [frames, size, size, 3].
    """

    kind: Literal["sound", "track", "frame", "face", "mouth"]
    size_px: int = 0
    resample: Literal["", "bicubic", "bilinear"] = ""
    fit: Literal["", "squash", "centre", "letterbox"] = ""
    recipe: Literal["", "colour", "steady", "plain", "still"] = ""

    def words(self) -> str:
        """Return what it is in words: its type, its shape, how it is made."""
        if self.kind == "sound":
            return "sound: float32 [samples], 16 kHz, mono"
        if self.kind == "track":
            return "track: 68 points and 52 blendshapes of the followed face, for each frame"
        channels = "" if self.kind == "mouth" and not self.recipe else ", 3"
        made = ", ".join(filter(None, (self.resample, self.fit, self.recipe)))
        return f"{self.kind}: uint8 [frames, {self.size_px}, {self.size_px}{channels}]" + (f", {made}" if made else "")


SOUND = View("sound")
TRACK = View("track")
FRAME = View("frame", 224, "bicubic", "squash")
FACE = View("face", 224, "bicubic")
FACE_PLAIN = View("face", 224, "bicubic", recipe="plain")
MOUTH = View("mouth", 96)
MOUTH_COLOUR = View("mouth", 96, recipe="colour")
MOUTH_STEADY = View("mouth", 96, recipe="steady")


@dataclass(frozen=True)
class Views:
    """Consecutive frames of one clip as its encoders want to see them.

    A clip arrives as blocks whose ``pictures`` are frames ``start``, ``start + 1``, … of the 25 Hz timeline; sound and
    track come once, with the last block. ``failures`` says for each view that could not be made why not.
    """

    start: int = 0
    pictures: Mapping[View, NDArray[np.uint8]] = field(default_factory=dict)
    sound: NDArray[np.float32] | None = None
    track: Track | None = None
    failures: Mapping[View, ClipError] = field(default_factory=dict)


@dataclass(frozen=True)
class ViewSettings:
    """How views are made.

    on_no_face: ``fail`` makes a clip without a face for longer than half a second a failure for whoever reads face or
        mouth. ``center`` does as the reference does: gaps of any length are filled, and a clip without any face gives
        the middle of its pictures (the largest square as face; 96 x 96 pixels, not resized, as mouth).
    face_margin: side of the face square, in sides of the tight box around the landmarks.
    landmarks: ``mediapipe``, following one face; or ``dlib``, frame by frame, as the reference's preprocessing does.
    """

    on_no_face: Literal["fail", "center"] = "fail"
    face_margin: float = 1.3
    landmarks: Literal["mediapipe", "dlib"] = "mediapipe"

    def __post_init__(self) -> None:
        if self.on_no_face not in ("fail", "center"):
            raise ValueError(f"on_no_face is fail or center, not {self.on_no_face!r}")
        if self.landmarks not in ("mediapipe", "dlib"):
            raise ValueError(f"landmarks is mediapipe or dlib, not {self.landmarks!r}")
        if not 0.5 <= self.face_margin <= 10:
            raise ValueError(f"face_margin is between 0.5 and 10, not {self.face_margin}")


def view_versions() -> dict[str, str]:
    """Return the versions of the libraries that decide what a view's pixels are."""
    import PIL

    return {"pillow": PIL.__version__, "numpy": np.__version__}


class ViewMaker:
    """Makes the picture views of one clip, block by block; what it keeps is a few numbers for each frame.

    How each view is cut stands in ``avfeat.cutters``.

    Args:
        views: kinds ``sound`` and ``track`` are not pictures and are left aside.
        settings: how to make them.
        track: the followed face in each frame, with its gaps; may be None when only ``frame`` is asked for.
        clip_id: named in errors.
        width_px, height_px: size of the displayed pictures.

    Attributes:
        failures: the views that this clip cannot give, and why; ``make`` leaves them out.
    """

    failures: dict[View, ClipError]

    def __init__(
        self,
        views: frozenset[View],
        settings: ViewSettings,
        track: Track | None,
        clip_id: str,
        width_px: int,
        height_px: int,
    ):
        from avfeat.cutters import cutter_of

        self._clip_id = clip_id
        self._size = (height_px, width_px)
        self._frames: int | None = None
        self.failures = {}
        self._cutters: dict[View, Cutter] = {}
        for view in sorted(view for view in views if view.kind in ("frame", "face", "mouth")):
            try:
                self._cutters[view] = cutter_of(view, settings, track, clip_id)
            except ClipError as error:
                self.failures[view] = error
        if track is not None and any(view.kind != "frame" for view in self._cutters):
            self._frames = len(track.found)

    def make(self, pictures: NDArray[np.uint8], start: int) -> dict[View, NDArray[np.uint8]]:
        """Return the views of consecutive pictures.

        Args:
            pictures: uint8 RGB [n, height, width, 3].
            start: place of the first one on the clip's timeline.

        Returns:
            For each view that did not fail uint8 [n, size, size, 3] (grey ``mouth``: [n, size, size]).

        Raises:
            LengthError: there are more pictures than the track has frames.
            UnreadableError: the pictures have another size than the clip announced.
        """
        if pictures.shape[1:3] != self._size:
            found, said = (f"{width} x {height}" for height, width in (pictures.shape[1:3], self._size))
            raise UnreadableError(f"{self._clip_id}: pictures from frame {start} on are {found} pixels, not {said}.")
        if self._frames is not None and start + len(pictures) > self._frames:
            raise LengthError(
                f"{self._clip_id}: at least {start + len(pictures)} frames were decoded, its track has {self._frames}."
            )
        made = {view: np.empty((len(pictures), *cutter.shape), np.uint8) for view, cutter in self._cutters.items()}
        for offset, picture in enumerate(pictures):
            for view, cutter in self._cutters.items():
                made[view][offset] = cutter.cut(picture, start + offset)
        return made
