"""How one picture becomes one view: the whole of it, the upright face, the mouth.

``frame`` is the whole picture, resized by Pillow. ``squash`` scales both sides to the view's size. ``centre`` scales
the short side to it, the long one to ``int(size * long / short)``, and cuts the middle at ``int((side - size) / 2)``,
as the stock CLIP processor does. ``letterbox`` scales the long side to it and puts black beside the picture.

``face`` is the square of ``crops.face_squares``, turned upright. One larger than the view is shrunk by Pillow, with its
antialiasing, and then turned, both by the view's filter; a smaller one is turned and enlarged at once.

``mouth`` is AV-HuBERT's: ``crops.mouth_transforms``, ``crops.warp_window``, ``crops.grey``; its recipe ``colour`` is
the same without the grey, ``steady`` is Auto-AVSR's own, in colour: ``crops.steady_transforms``.

The recipe ``plain`` of ``face`` is that of FSFM, after face detectors: ``margin`` times the longer side of the box
around the frame's own points, in whole pixels, not turned; held inside the picture, and smaller near its borders.
``still`` is the same, but one square for a whole shot, around the median of its boxes, so that what moves in it is the
face and not the square.

What lies outside the picture is black in ``face`` and ``mouth``, and neither smooths landmarks across a cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avfeat import crops
from avfeat.errors import NoFaceError
from avfeat.landmarks import Track, fill_gaps, shots
from avfeat.views import View, ViewSettings

Picture = NDArray[np.uint8]
"""uint8 RGB [height, width, 3]."""

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


class Cutter(Protocol):
    """Makes one view of one clip; ``shape`` is that of a picture of it."""

    shape: tuple[int, ...]

    def cut(self, picture: Picture, frame: int) -> NDArray[np.uint8]:
        """Return the view of ``picture``, which is number ``frame`` of the clip's timeline."""


class PlacedCutter(Cutter, Protocol):
    """One whose views are straight or turned squares of the picture."""

    def place(self, width_px: int, height_px: int, frame: int) -> crops.Floats:
        """Return the way back: float64 [2, 3], from (u, v, 1) in the view of that frame to (x, y) in the picture.

        Both count from the outer corner of their first pixel. Views of squares that are empty come from one point.
        """


def cutter_of(view: View, settings: ViewSettings, track: Track | None, clip_id: str) -> Cutter:
    """Return what makes ``view``: one of kind frame, face or mouth.

    Raises:
        NoFaceError: the view follows the face and there is none for longer than allowed.
    """
    if view.kind == "frame":
        return WholePicture(view)
    if track is None:
        raise ValueError(f"{clip_id}: the view {view.kind} needs a track")
    if settings.on_no_face == "center" and not track.found.any():
        return _middle(view, track, clip_id)
    filled = (
        fill_gaps(track, math.inf, clip_id) if settings.on_no_face == "center" else fill_gaps(track, clip_id=clip_id)
    )
    if view.recipe in ("plain", "still"):
        boxes = np.concatenate([filled.points.min(axis=1), filled.points.max(axis=1)], axis=1)
        if view.recipe == "still":
            for shot in shots(filled):
                boxes[shot] = np.median(boxes[shot], axis=0)
        return PlainSquare(view, boxes, settings.face_margin)
    if view.recipe == "steady":
        return _steady_mouth(view, [filled.points[shot] for shot in shots(filled)])
    parts = [
        (filled.points[shot][piece], keep)
        for shot in shots(filled)
        for piece, keep in crops.pieces(shot.stop - shot.start)
    ]
    return _square(view, settings.face_margin, parts) if view.kind == "face" else _mouth(view, parts)


_Parts = Sequence[tuple[NDArray[np.float32], int]]
"""Landmarks [n, 68, 2] to be smoothed by themselves, and how many of these frames to keep."""


def _square(view: View, margin: float, parts: _Parts) -> Cutter:
    squares = [[each[:keep] for each in crops.face_squares(points, margin)] for points, keep in parts]
    centres, sides, angles = (np.concatenate(each) for each in zip(*squares, strict=True))
    return UprightSquare(view, centres, sides, angles)


def _mouth(view: View, parts: _Parts) -> Cutter:
    inverses, corners = [], []
    for points, keep in parts:
        transforms = crops.mouth_transforms(points)[:keep]
        inverses.append(crops.invert(transforms))
        corners.append(crops.mouth_corners(points[:keep], transforms, view.size_px))
    return Mouth(view, np.concatenate(inverses), np.concatenate(corners))


def _steady_mouth(view: View, parts: Sequence[NDArray[np.float32]]) -> Cutter:
    found = [crops.steady_transforms(points) for points in parts]
    inverses = np.concatenate([crops.invert(transforms) for _, transforms in found])
    corners = np.concatenate([crops.mouth_corners(smooth, transforms, view.size_px) for smooth, transforms in found])
    return Mouth(view, inverses, corners)


def _middle(view: View, track: Track, clip_id: str) -> Cutter:
    width, height, frames = track.width_px, track.height_px, len(track.found)
    side = min(width, height)
    if view.kind == "face":
        centre = np.array([(width - side) // 2, (height - side) // 2]) + (side - 1) / 2
        return UprightSquare(view, np.tile(centre, (frames, 1)), np.full(frames, float(side)), np.zeros(frames))
    if side < view.size_px:
        raise NoFaceError(
            f"{clip_id}: no face was found, and its pictures of {width} x {height} pixels are smaller than the "
            f"{view.size_px} x {view.size_px} of their middle that would stand for the mouth."
        )
    return MiddlePixels(view)


class WholePicture:
    """The kind ``frame``."""

    def __init__(self, view: View):
        self.shape: tuple[int, ...] = (view.size_px, view.size_px, 3)
        self._size = view.size_px
        self._fit = view.fit
        self._filter = _FILTERS[view.resample]

    def cut(self, picture: Picture, frame: int) -> NDArray[np.uint8]:
        """Return the whole picture as a square of the view's size."""
        image = Image.fromarray(picture)
        size, (width, height, left, top) = self._size, self._laid(image.width, image.height)
        resized = np.asarray(image.resize((width, height), self._filter))
        if self._fit != "letterbox":
            return resized[-top : size - top, -left : size - left]
        canvas = np.zeros(self.shape, np.uint8)
        canvas[top : top + height, left : left + width] = resized
        return canvas

    def place(self, width_px: int, height_px: int, frame: int) -> crops.Floats:
        """Return the way from the view to the picture."""
        width, height, left, top = self._laid(width_px, height_px)
        across, down = width_px / width, height_px / height
        return np.array([[across, 0.0, -left * across], [0.0, down, -top * down]])

    def _laid(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return width and height of the resized picture, and where its left and top lie in the view."""
        size = self._size
        if self._fit == "squash":
            return size, size, 0, 0
        if self._fit == "centre":
            short = min(width, height)
            width, height = (size if side == short else int(size * side / short) for side in (width, height))
            return width, height, -int((width - size) / 2), -int((height - size) / 2)
        long = max(width, height)
        width, height = (max(round(size * side / long), 1) for side in (width, height))
        return width, height, (size - width) // 2, (size - height) // 2


class UprightSquare:
    """The kind ``face``: centres [T, 2] and sides [T] in pixels, angles [T] in radians, one for each frame."""

    def __init__(self, view: View, centres: crops.Floats, sides: crops.Floats, angles: crops.Floats):
        self.shape: tuple[int, ...] = (view.size_px, view.size_px, 3)
        self._size = view.size_px
        self._filter = _FILTERS[view.resample]
        self._squares = np.column_stack([centres, sides, angles])

    def cut(self, picture: Picture, frame: int) -> NDArray[np.uint8]:
        """Return the square around the face, upright."""
        x, y, side, angle = self._squares[frame].tolist()
        size = self._size
        cosine, sine = math.cos(angle), math.sin(angle)
        step = max(side / size, 1.0)
        # Pillow puts the corner of the first pixel at (0, 0), landmarks its centre.
        reach = math.ceil(size / 2 * (abs(cosine) + abs(sine))) + 2
        around = _around(picture, x + 0.5, y + 0.5, reach, step, self._filter)
        if around is None:
            return np.zeros(self.shape, np.uint8)
        image, middle_x, middle_y = around
        # From an output pixel to a place in the image, around the square's middle on both sides.
        scale = side / size / step
        across, down, half = cosine * scale, sine * scale, size / 2
        turn = (across, -down, middle_x - (across - down) * half, down, across, middle_y - (down + across) * half)
        return np.asarray(image.transform((size, size), Image.Transform.AFFINE, turn, self._filter))

    def place(self, width_px: int, height_px: int, frame: int) -> crops.Floats:
        """Return the way from the view to the picture."""
        x, y, side, angle = self._squares[frame].tolist()
        scale, half = side / self._size, self._size / 2
        across, down = math.cos(angle) * scale, math.sin(angle) * scale
        # Pillow and this way put the corner of the first pixel at (0, 0), landmarks its centre.
        left, top = x + 0.5 - (across - down) * half, y + 0.5 - (down + across) * half
        return np.array([[across, -down, left], [down, across, top]])


class PlainSquare:
    """The kind ``face``, recipes ``plain`` and ``still``: boxes [T, 4], left, top, right and bottom in pixels."""

    def __init__(self, view: View, boxes: NDArray[np.float32], margin: float):
        self.shape: tuple[int, ...] = (view.size_px, view.size_px, 3)
        self._size = view.size_px
        self._filter = _FILTERS[view.resample]
        self._boxes = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1).astype(np.int64)
        self._margin = margin

    def cut(self, picture: Picture, frame: int) -> NDArray[np.uint8]:
        """Return the square around the face, squashed where the picture's border has cut it."""
        left, top, side = self._square(picture.shape[1], picture.shape[0], frame)
        if side <= 0:
            return np.zeros(self.shape, np.uint8)
        square = Image.fromarray(np.ascontiguousarray(picture[top : top + side, left : left + side]))
        return np.asarray(square.resize((self._size, self._size), self._filter))

    def place(self, width_px: int, height_px: int, frame: int) -> crops.Floats:
        """Return the way from the view to the picture."""
        left, top, side = self._square(width_px, height_px, frame)
        scale = max(side, 0) / self._size
        return np.array([[scale, 0.0, left], [0.0, scale, top]])

    def _square(self, width: int, height: int, frame: int) -> tuple[int, int, int]:
        """Return left, top and side of the square; a side of 0 or less is a face outside the picture."""
        x0, y0, x1, y1 = self._boxes[frame].tolist()
        side = int(self._margin * max(x1 - x0, y1 - y0))
        left, top = max((x0 + x1) // 2 - side // 2, 0), max((y0 + y1) // 2 - side // 2, 0)
        return left, top, min(side, width - left, height - top)


def _around(
    picture: Picture, x: float, y: float, reach: int, step: float, resample: Image.Resampling
) -> tuple[Image.Image, float, float] | None:
    """Return the picture around (x, y) with ``step`` pixels made one, and where (x, y) is in it; None outside of it.

    It reaches ``reach`` shrunk pixels to each side, less where the picture ends; whole ones, so that (x, y) lies on the
    corner of four.
    """
    height, width = picture.shape[:2]
    left, right = min(reach, math.floor(x / step)), min(reach, math.floor((width - x) / step))
    top, bottom = min(reach, math.floor(y / step)), min(reach, math.floor((height - y) / step))
    if left + right <= 0 or top + bottom <= 0:
        return None
    support = math.ceil(2 * step) + 1
    x0, y0 = max(math.floor(x - left * step) - support, 0), max(math.floor(y - top * step) - support, 0)
    x1, y1 = math.ceil(x + right * step) + support, math.ceil(y + bottom * step) + support
    image = Image.fromarray(np.ascontiguousarray(picture[y0:y1, x0:x1]))
    x, y = x - x0, y - y0
    if step == 1:
        return image, x, y
    box = (
        max(x - left * step, 0.0),
        max(y - top * step, 0.0),
        min(x + right * step, image.width),
        min(y + bottom * step, image.height),
    )
    return image.resize((left + right, top + bottom), resample, box=box), left, top


class Mouth:
    """The kind ``mouth``: inverse transforms [T, 2, 3] and window corners [T, 2], one for each frame."""

    def __init__(self, view: View, inverses: crops.Floats, corners: NDArray[np.int64]):
        self.shape = _mouth_shape(view)
        self._colour = bool(view.recipe)
        self._size = view.size_px
        self._inverses = inverses
        self._corners = corners

    def cut(self, picture: Picture, frame: int) -> NDArray[np.uint8]:
        """Return the mouth."""
        mouth = crops.warp_window(picture, self._inverses[frame], self._corners[frame], self._size)
        return mouth if self._colour else crops.grey(mouth)


class MiddlePixels:
    """The kind ``mouth`` where no face is: the middle of the picture, not resized."""

    def __init__(self, view: View):
        self.shape = _mouth_shape(view)
        self._colour = bool(view.recipe)
        self._size = view.size_px

    def cut(self, picture: Picture, frame: int) -> NDArray[np.uint8]:
        """Return the picture's middle."""
        top, left = ((side - self._size) // 2 for side in picture.shape[:2])
        middle = picture[top : top + self._size, left : left + self._size]
        return middle if self._colour else crops.grey(middle)


def _mouth_shape(view: View) -> tuple[int, ...]:
    return (view.size_px, view.size_px, 3) if view.recipe else (view.size_px, view.size_px)
