"""Landmarks: the followed face's track in, its shape, the shape's motion and its blendshapes out. No weights.

A row has 324 numbers:

0-135    the 68 points (x0, y0, x1, y1, ...) of the frame, turned, scaled and shifted by the least-squares similarity
         that brings five points which speech does not move (under the nose, the corners of the eyes) onto the mean
         face; origin between the eyes, unit = the mean face's distance between the outer corners of the eyes
136-271  the same points minus those of the frame before; 0 in the first frame
272-323  MediaPipe's 52 blendshape coefficients, 0..1
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfeat.crops import MEAN_FACE, STABLE, apply, similarity
from avfeat.encoders.base import Card, ClipEncoder, Encoder, FeatureName, Output, Request, Rows
from avfeat.encoders.settings import chosen
from avfeat.landmarks import fill_gaps
from avfeat.timeline import RATE_HZ
from avfeat.views import TRACK, Views

POINTS = 68
BLENDSHAPES = 52
WIDTH = 2 * POINTS + 2 * POINTS + BLENDSHAPES

_OUTER_LEFT, _OUTER_RIGHT = STABLE.index(36), STABLE.index(45)

CARD = Card(
    name="landmarks",
    summary="68 face points in the mean face's frame, their motion from frame to frame, and 52 blendshapes",
    outputs={"": Output((TRACK,), WIDTH)},
    rate_hz=RATE_HZ,
    first_seconds=1 / RATE_HZ / 2,
    layers=0,
    licence="Apache-2.0",
    source="computed here from MediaPipe's face landmarker; no weights of its own",
    citation="Kartynnik et al., Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs, 2019",
)
CARDS = {CARD.name: CARD}


class Landmarks(ClipEncoder):
    """See the head of this file for what a row holds."""

    card = CARD

    def __init__(self, request: Request):
        chosen(CARD.name, request.settings, {})
        self.wanted = request.wanted
        self.provenance: dict[str, Any] = {"versions": {"numpy": np.__version__}}

    def encode(self, views: Views, wanted: Sequence[FeatureName]) -> dict[FeatureName, Rows]:
        """Return float32 [frames, 324].

        Raises:
            NoFaceError: no face is there for longer than may be filled.
        """
        assert views.track is not None
        track = fill_gaps(views.track)
        shape = normalised_points(track.points).reshape(len(track.points), -1)
        motion = np.diff(shape, axis=0, prepend=shape[:1])
        rows = np.concatenate([shape, motion, track.blendshapes], axis=1).astype(np.float32)
        return {name: rows for name in wanted}


def normalised_points(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the points [T, 68, 2] of each frame in the mean face's frame, in distances between its eyes' corners.

    x goes to the picture's right and y down; (0, 0) lies halfway between the outer corners of the mean face's eyes.
    """
    left, right = MEAN_FACE[_OUTER_LEFT], MEAN_FACE[_OUTER_RIGHT]
    on_mean_face = apply(similarity(points[:, STABLE].astype(np.float64), MEAN_FACE), points.astype(np.float64))
    placed: NDArray[np.float64] = (on_mean_face - (left + right) / 2) / np.linalg.norm(right - left)
    return placed


def build(request: Request) -> Encoder:
    """Return the encoder; there is nothing to choose."""
    return Landmarks(request)
