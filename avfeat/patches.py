"""Where in a video's pictures the linear score of a stored feature comes from, through the encoder that made it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from avfeat.clip import Clip
from avfeat.cutters import PlacedCutter, cutter_of
from avfeat.encoders.patch_encoder import PatchEncoder
from avfeat.errors import EncoderError, NoPicturesError
from avfeat.files import encoders_like
from avfeat.landmarks import Track, fill_gaps
from avfeat.options import Options
from avfeat.pool import Again, Pool
from avfeat.produce import FOLLOWS_FACE, Ended, Failed, Job
from avfeat.session import landmarker_model
from avfeat.timeline import RATE_HZ
from avfeat.views import TRACK

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PatchMap:
    """One frame whose score was taken apart; places are fractions of the picture's width and height, from its top left.

    frame: its number on the 25 Hz timeline; ``seconds`` is its middle.
    picture: uint8 RGB [height, width, 3], the whole picture.
    score: weight · row / |row| + bias.
    shares: float64 [rows, columns], what each patch adds to the score or takes from it.
    rest: what else adds to it, by name; with ``shares`` it sums to ``score``.
    gradcam: float64 [rows, columns], 0 or more.
    way: float64 [2, 3], from (column, row, 1) on the grid of patches to pixels of the picture, both counted from the
        outer corner of their first one.
    face: the middle of the box around the face's landmarks; None when no face was looked for or found.
    """

    frame: int
    seconds: float
    picture: NDArray[np.uint8]
    score: float
    shares: Floats
    rest: Mapping[str, float]
    gradcam: Floats
    way: Floats
    face: tuple[float, float] | None

    def on_frame(self, values: Floats) -> Floats:
        """Return patch values [rows, columns] as a map over the whole picture, float64 [height, width].

        Between the middles of patches values go in straight lines; what the encoder did not see is 0.
        """
        height, width = self.picture.shape[:2]
        inverse = np.linalg.inv(np.vstack([self.way, [0.0, 0.0, 1.0]]))[:2]
        x, y = np.arange(width) + 0.5, (np.arange(height) + 0.5)[:, None]
        column, row = (line[0] * x + line[1] * y + line[2] for line in inverse)
        rows, columns = values.shape
        inside = (column >= 0) & (column <= columns) & (row >= 0) & (row <= rows)
        left, right_part = _between(column, columns)
        top, bottom_part = _between(row, rows)
        right, bottom = np.minimum(left + 1, columns - 1), np.minimum(top + 1, rows - 1)
        upper = values[top, left] * (1 - right_part) + values[top, right] * right_part
        lower = values[bottom, left] * (1 - right_part) + values[bottom, right] * right_part
        return np.where(inside, upper * (1 - bottom_part) + lower * bottom_part, 0.0)

    def highest(self, values: Floats) -> tuple[float, float]:
        """Return the place of the highest patch value, the middle of its patch, among those that lie in the picture."""
        height, width = self.picture.shape[:2]
        rows, columns = np.indices(values.shape) + 0.5
        x, y = (line[0] * columns + line[1] * rows + line[2] for line in self.way)
        inside = (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
        best = np.unravel_index(np.argmax(np.where(inside, values, -np.inf)), values.shape)
        return float(x[best] / width), float(y[best] / height)


def _between(places: Floats, count: int) -> tuple[NDArray[np.int64], Floats]:
    """Return the patch whose middle is at or before each place, and how far on the way to the next it is."""
    middles = np.clip(places - 0.5, 0.0, count - 1.0)
    before = np.floor(middles).astype(np.int64)
    return before, middles - before


class PatchExplainer:
    """Takes the linear scores of one feature's frames apart, for any number of videos.

    Args:
        feature: name of a stored feature of CLIP, DINOv2 or FSFM.
        weight, bias: of the score; float [width].
        like: the attributes of the feature, as ``Feature.attributes`` has them.
        weights: where the encoder's weights are now, if not where they were.
        options: device, landmarker and time limit.

    Raises:
        EncoderError: the feature does not come from patches of pictures, was computed in half precision, has another
            width, or what can be built here is not what made it.
        AvfeatError: weights are missing, or this machine lacks something.
    """

    def __init__(
        self,
        feature: str,
        weight: NDArray[Any],
        bias: float,
        *,
        like: Mapping[str, Any],
        weights: Path | None = None,
        options: Options | None = None,
    ):
        self._options = options or Options()
        computed = (like.get("asked") or {}).get("dtype_compute", "fp32")
        if computed != "fp32":
            raise EncoderError(
                f"{feature} was computed in {computed}, and only float32 can be taken apart exactly: extract it once "
                "more with --dtype-compute fp32."
            )
        (encoder,), self._views = encoders_like([feature], {feature: like}, weights, self._options.device)
        if not isinstance(encoder, PatchEncoder):
            raise EncoderError(
                f"{feature} is not made of patches of single pictures: where its score comes from can be told for "
                "CLIP, DINOv2 and FSFM only."
            )
        width = encoder.card.output(encoder.wanted[0]).width
        if weight.shape != (width,):
            raise EncoderError(f"{feature} is {width} wide, the weights that score it have the shape {weight.shape}.")
        self._encoder, self._name = encoder, encoder.wanted[0]
        self._weight, self._bias = weight.astype(np.float32), bias

    def explain(self, path: Path, frames: Collection[int] | None = None, *, face: bool = False) -> list[PatchMap]:
        """Take frames of one video apart.

        Args:
            path: a media file.
            frames: their numbers on the 25 Hz timeline; None: the one with the highest score.
            face: look for the face even when the encoder does not.

        Returns:
            One map for each frame, in their order.

        Raises:
            ClipError: the video cannot be used, or has no such frame; in one sentence why.
        """
        kept, track = self._look(path, frames, face or self._encoder.view.kind in FOLLOWS_FACE)
        if frames is not None and (absent := sorted(set(frames) - kept.keys())):
            raise NoPicturesError(f"{path}: there is no frame {absent[0]} to explain.")
        filled = fill_gaps(track, math.inf, str(path)) if track is not None and track.found.any() else None
        pictures = _pictures(path, kept)
        cutter = cutter_of(self._encoder.view, self._views, track, str(path))
        return [self._map(pictures[frame], kept[frame], frame, cast(PlacedCutter, cutter), filled) for frame in kept]

    def _look(
        self, path: Path, frames: Collection[int] | None, face: bool
    ) -> tuple[dict[int, NDArray[np.uint8]], Track | None]:
        """Return the chosen frames as the encoder sees them, by number, and the followed face."""
        view = self._encoder.view
        job = Job(str(path), path, frozenset({view, TRACK} if face else {view}), self._views)
        model = landmarker_model(replace(self._options, views=self._views)) if job.needs_track() else None
        kept: dict[int, NDArray[np.uint8]] = {}
        track: Track | None = None
        highest = -math.inf
        with Pool(1, model, self._options.silent_seconds) as pool:
            for _, message in pool.run([job]):
                if isinstance(message, Again):
                    kept, highest = {}, -math.inf
                elif isinstance(message, Failed):
                    raise message.error
                elif isinstance(message, Ended):
                    if view in message.views.failures:
                        raise message.views.failures[view]
                    track = message.views.track
                elif view in message.pictures:
                    seen = message.pictures[view]
                    if frames is not None:
                        kept |= {
                            message.start + k: seen[k].copy() for k in range(len(seen)) if message.start + k in frames
                        }
                        continue
                    scores = self._scores(seen)
                    if scores.max() > highest:
                        best = int(scores.argmax())
                        kept, highest = {message.start + best: seen[best]}, float(scores[best])
        return dict(sorted(kept.items())), track

    def _scores(self, seen: NDArray[np.uint8]) -> Floats:
        rows = self._encoder.encode_pictures(seen, [self._name])[self._name].astype(np.float64)
        scores: Floats = rows @ self._weight / np.linalg.norm(rows, axis=1) + self._bias
        return scores

    def _map(
        self,
        picture: NDArray[np.uint8],
        seen: NDArray[np.uint8],
        frame: int,
        cutter: PlacedCutter,
        track: Track | None,
    ) -> PatchMap:
        height, width = picture.shape[:2]
        found = self._encoder.explain_pictures(seen[None], self._name, self._weight, self._bias)
        left, top, right, bottom = self._encoder.patch_box()
        rows, columns = found.shares.shape[1:]
        onto = np.array([[(right - left) / columns, 0, left], [0, (bottom - top) / rows, top], [0, 0, 1]])
        face = None
        if track is not None:
            # Landmarks put the centre of the first pixel at (0, 0).
            middle = (track.points[frame].min(axis=0) + track.points[frame].max(axis=0)) / 2 + 0.5
            face = (float(middle[0] / width), float(middle[1] / height))
        return PatchMap(
            frame,
            (frame + 0.5) / RATE_HZ,
            picture,
            float(found.scores[0]),
            found.shares[0],
            {name: float(part[0]) for name, part in found.rest.items()},
            found.gradcam[0],
            cutter.place(width, height, frame) @ onto,
            face,
        )


def _pictures(path: Path, frames: Collection[int]) -> dict[int, NDArray[np.uint8]]:
    """Return the whole pictures of these frames."""
    found: dict[int, NDArray[np.uint8]] = {}
    start = 0
    with Clip(path, str(path), sound=False, memory_bytes=0) as clip:
        for block in clip.blocks():
            found |= {start + k: block[k].copy() for k in range(len(block)) if start + k in frames}
            start += len(block)
            if start > max(frames):
                break
    return found
