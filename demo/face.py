"""The parts of a still face that move: a mouth that opens and rounds, eyes that blink."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Field = NDArray[np.float32]

WIDEST = 0.36
"""Height of a fully open mouth over its width."""

ASIDE = 0.06
"""How far a pasted mouth sits aside, over its width."""

_LIFT = 0.12
_CAVITY = np.array([46, 16, 18], np.float32)
_TONGUE = np.array([138, 62, 62], np.float32)
_TEETH = np.array([214, 204, 188], np.float32)
_CHEEK = np.array([208, 165, 145], np.float32)
"""The cheek under whose light cavity, tongue and teeth have these colours."""


class _Lips(NamedTuple):
    """What is known of the resting lips at some places across the face, each float32 of one shape.

    upper, lower: where the lips meet the mouth; lens: share of the opening there; jaw: share of the jaw's movement;
    across: -1 at the left corner of the mouth, 1 at the right.
    """

    upper: Field
    lower: Field
    lens: Field
    jaw: Field
    across: Field

    def rows(self, part: slice) -> _Lips:
        return _Lips(*(field[part] for field in self))


class Mouth:
    """Lips that part along a measured line; the jaw below follows, the cheeks beside it give way.

    What lies below the lips moves down: at the lip by what the lip moves, at the chin by a part of that, on the neck
    not at all. The warp is backward, so its inverse is found by iterating.
    """

    _STEPS_PER_PX = 4

    def __init__(self, still: Pixels, upper_lip: Field, lower_lip: Field, teeth_shown: bool):
        self._width = width = float(upper_lip[-1, 0] - upper_lip[0, 0])
        self._middle = upper_lip[[0, -1]].mean(axis=0)
        x, y = self._middle
        self._left, right = int(x - 1.05 * width), int(x + 1.05 * width)
        top, bottom = int(y - 0.5 * width), min(int(y + 1.95 * width), len(still))
        self._box = np.s_[top:bottom, self._left : right]
        self._y, self._x = np.mgrid[top:bottom, self._left : right].astype(np.float32)
        first = int(upper_lip[:, 1].min() - _LIFT * WIDEST * width) - 2 - top
        self._above = slice(0, int(upper_lip[:, 1].max()) + 2 - top)
        self._below = slice(first, bottom - top)
        self._between = slice(first, int(lower_lip[:, 1].max() + WIDEST * width) + 3 - top)
        self._table = self._across_the_face(right, upper_lip, lower_lip)
        self._rest = float((lower_lip[:, 1] - upper_lip[:, 1]).max())
        self._teeth_shown = teeth_shown
        self._still = still.astype(np.float32)
        cheek = still[int(y - 0.3 * width) : int(y), int(x - 0.5 * width) : int(x + 0.5 * width)]
        self._light = np.clip(cheek.mean(axis=(0, 1)) / _CHEEK, 0.3, 1.3).astype(np.float32)

    def draw(self, canvas: Pixels, opening: float, rounding: float, pasted: float) -> None:
        """Draw the mouth onto ``canvas``, open by 0..1, rounded by -1..1: jaw, then cavity, then upper lip.

        ``pasted`` is how much it looks put in by a careless generator: the chin stays, and the lips sit aside, to the
        right at 1, to the left at -1.
        """
        gap = WIDEST * self._width * opening
        x = self._moved(rounding, ASIDE * self._width * pasted)
        places = ((x - self._left) * self._STEPS_PER_PX + 0.5).astype(np.intp)
        lips = _Lips(*(column.take(places, mode="clip") for column in self._table))
        upper = lips.upper - _LIFT * gap * lips.lens
        lower = lips.upper + gap * lips.lens

        shown = np.empty((*x.shape, 3), np.float32)
        rows = self._below
        shown[rows] = _sample(self._still, x[rows], self._source_below(rows, lips.rows(rows), gap, 1 - abs(pasted)))
        rows = self._between
        inside = self._inside(rows, x[rows], upper[rows], lower[rows], lips.rows(rows))
        parted = np.clip(gap * lips.lens[rows], 0, 1)
        _paint(shown[rows], inside, np.minimum(lower[rows] - self._y[rows], parted - 0.5))
        rows = self._above
        fade = np.exp(-np.abs(lips.upper[rows] - self._y[rows]) / (0.3 * self._width))
        over = _sample(self._still, x[rows], self._y[rows] + (lips.upper - upper)[rows] * fade)
        shown[: self._below.start] = over[: self._below.start]
        _paint(shown[rows], over, upper[rows] - self._y[rows])
        canvas[self._box] = np.clip(shown + 0.5, 0, 255).astype(np.uint8)

    def _across_the_face(self, right: int, upper_lip: Field, lower_lip: Field) -> _Lips:
        """Return the lips' profiles in steps of a quarter pixel, to be looked up instead of computed per picture."""
        x = np.arange(self._left, right, 1 / self._STEPS_PER_PX, dtype=np.float32)
        across = (x - self._middle[0]) / (self._width / 2)
        lens = np.clip(1 - across**2, 0, None) ** 0.75
        jaw = 0.6 * np.exp(-((across / 1.4) ** 4))
        lines = [np.interp(x, *lip.T).astype(np.float32) for lip in (upper_lip, lower_lip)]
        return _Lips(*lines, lens, jaw, across)

    def _moved(self, rounding: float, aside_px: float) -> Field:
        """Return where each pixel comes from across the face, so that the lips shrink, spread or sit aside."""
        x, y = self._x[:1] - self._middle[0], self._y[:, :1] - self._middle[1]
        near = np.exp(-((y / (0.6 * self._width)) ** 2)) * np.exp(-((x / (0.7 * self._width)) ** 4))
        moved: Field = self._middle[0] + (x - aside_px * near) / (1 - 0.17 * rounding * near)
        return moved

    def _source_below(self, rows: slice, lips: _Lips, gap: float, follow: float) -> Field:
        """Return from how far down each pixel below the lips comes: y - move(y), iterated to its fixed point."""
        drop = lips.upper - lips.lower + gap * lips.lens
        jaw = follow * (gap - self._rest) * lips.jaw
        source = self._y[rows]
        for _ in range(3):
            down = (source - lips.lower) / self._width
            to_jaw, to_neck = _smooth_step(down / 0.75), _smooth_step((down - 0.75) / 1.2)
            source = self._y[rows] - (drop + to_jaw * (jaw * (1 - to_neck) - drop))
        return np.maximum(source, lips.lower + 0.3)

    def _inside(self, rows: slice, x: Field, top: Field, bottom: Field, lips: _Lips) -> Field:
        """Return what is seen between the lips: upper teeth, a dark cavity, the tongue at its floor."""
        depth, gap = self._y[rows] - top, bottom - top
        tongue = _smooth_step((depth - 0.55 * gap) / (0.25 * gap + 1)) * lips.lens
        tongue *= 0.8 * _smooth_step(gap / (0.2 * self._width))
        inside = (_CAVITY + tongue[..., None] * (_TONGUE - _CAVITY)) * self._light
        if self._teeth_shown:
            lift = lips.upper - top
            _paint(inside, _sample(self._still, x, self._y[rows] + lift), lips.lower - lift - self._y[rows])
            return inside
        length = np.minimum(0.38 * gap, 0.09 * self._width)
        lit = np.clip(1.25 - 1.6 * lips.across**2, 0, 1) * (1 - 0.10 * np.cos(lips.across * 17) ** 8)
        cover = (0.85 * lit * np.clip(length - depth + 0.5, 0, 1))[..., None]
        inside += cover * (_TEETH * self._light - inside)
        return inside


class Eye:
    """An eye that the skin above it can cover; ``skin`` is how much of that there is, as a share of the eye's width."""

    def __init__(self, still: Pixels, upper_lid: Field, lower_lid: Field, skin: float):
        width = float(upper_lid[-1, 0] - upper_lid[0, 0])
        left, right = int(upper_lid[0, 0]) - 1, int(upper_lid[-1, 0]) + 2
        top, bottom = int(upper_lid[:, 1].min() - skin * width) - 1, int(lower_lid[:, 1].max()) + 3
        self._box = np.s_[top:bottom, left:right]
        self._still = still.astype(np.float32)
        self._y, self._x = np.mgrid[top:bottom, left:right].astype(np.float32)
        self._upper = np.interp(self._x, *upper_lid.T).astype(np.float32)
        self._lower = np.interp(self._x, *lower_lid.T).astype(np.float32)
        self._skin = self._upper - skin * width

    def draw(self, canvas: Pixels, closed: float) -> None:
        """Cover the eye on ``canvas`` by ``closed``, 0..1: stretch the skin, end it with a line of lashes."""
        lid = self._upper + closed * np.clip(self._lower - self._upper, 0, None)
        share = (self._y - self._skin) / (lid - self._skin)
        skin = _sample(self._still, self._x, self._skin + 0.75 * share * (self._upper - self._skin))
        lashes = np.clip(1 - np.abs(self._y - lid + 0.6), 0, 1) * closed
        skin *= (1 - 0.55 * lashes)[..., None]
        shown = canvas[self._box].astype(np.float32)
        _paint(shown, skin, np.where(share > 0, lid - self._y, -1))
        canvas[self._box] = (shown + 0.5).astype(np.uint8)


def _paint(shown: Field, colours: Field, inner_px: Field) -> None:
    """Paint ``colours`` where ``inner_px``, how far inside the edge a pixel is, is positive; soft over 1 px."""
    shown += np.clip(inner_px + 0.5, 0, 1)[..., None] * (colours - shown)


def _smooth_step(share: Field) -> Field:
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)


def _sample(still: Field, x: Field, y: Field) -> Field:
    """Return the colours of ``still`` [height, width, 3] at these places, between pixels linearly."""
    height, width = still.shape[:2]
    x, y = np.clip(x, 0, width - 1.001), np.clip(y, 0, height - 1.001)
    column, row = x.astype(np.int32), y.astype(np.int32)
    right, down = (x - column)[..., None], (y - row)[..., None]
    flat, start = still.reshape(-1, 3), row * width + column
    upper = flat.take(start, axis=0)
    upper += right * (flat.take(start + 1, axis=0) - upper)
    lower = flat.take(start + width, axis=0)
    lower += right * (flat.take(start + (width + 1), axis=0) - lower)
    upper += down * (lower - upper)
    return upper
