"""Clip and track in, what each encoder wants to see out: sound, whole frame, face, mouth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from avfeat.errors import ClipError

if TYPE_CHECKING:
    from avfeat.landmarks import Track


@dataclass(frozen=True, order=True)
class View:
    """What an encoder wants to see of a clip; a value, so that encoders that agree share the work.

    ``sound`` is float32 [samples] at 16 kHz; ``track`` the followed face's landmarks; ``frame`` and ``face``
    are uint8 RGB [frames, size, size, 3]; ``mouth`` is uint8 grey [frames, size, size].
    """

    kind: Literal["sound", "track", "frame", "face", "mouth"]
    size_px: int = 0
    resample: Literal["", "bicubic", "bilinear"] = ""
    fit: Literal["", "squash", "centre", "letterbox"] = ""


SOUND = View("sound")
TRACK = View("track")
FRAME = View("frame", 224, "bicubic", "squash")
FACE = View("face", 224, "bicubic")
MOUTH = View("mouth", 96)


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
