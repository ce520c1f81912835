"""A still portrait that talks: the lips part, the jaw drops, the eyes blink, the camera sways.

Everything is a backward warp: for each pixel shown, where in the still it comes from. The places of eyes and mouth were
measured once, with MediaPipe, on the two photographs that matplotlib and scikit-image ship.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from demo.face import Eye, Mouth, Pixels

MARGIN_PX = 18
"""Pixels kept around the shown picture, so that a swaying camera never sees its edge."""

_CELL_PX = 20
_PAD_PX = 160


@dataclass(frozen=True)
class Photograph:
    """One of the two photographs: where its eyes, lips and chin are, as (x, y) in pixels."""

    name: str
    eyes: tuple[NDArray[np.float32], NDArray[np.float32]]
    """Each eye from left to right: outline of the upper lid, then of the lower lid; [2, 4, 2]."""
    upper_lip: NDArray[np.float32]
    lower_lip: NDArray[np.float32]
    teeth_shown: bool
    lid_skin: float
    """How much smooth skin is above the eye, as a share of the eye's width."""


def _points(*pairs: tuple[float, float]) -> NDArray[np.float32]:
    return np.array(pairs, np.float32)


HOPPER = Photograph(
    "hopper",
    (
        np.stack(
            [
                _points((207.2, 193.5), (213.6, 188.1), (226.1, 187.2), (238.8, 196.1)),
                _points((207.2, 193.5), (217.2, 196.9), (229.2, 196.6), (238.8, 196.1)),
            ]
        ),
        np.stack(
            [
                _points((290.7, 192.8), (301.9, 182.5), (314.7, 182.1), (322.0, 186.7)),
                _points((290.7, 192.8), (299.8, 192.5), (312.0, 191.4), (322.0, 186.7)),
            ]
        ),
    ),
    _points((234.0, 279.4), (258.5, 279.0), (266.6, 279.3), (275.4, 278.6), (302.5, 276.7)),
    _points((234.0, 279.4), (258.7, 279.3), (266.7, 279.5), (275.2, 278.7), (302.5, 276.7)),
    teeth_shown=False,
    lid_skin=0.16,
)
ASTRONAUT = Photograph(
    "astronaut",
    (
        np.stack(
            [
                _points((195.3, 100.9), (199.2, 98.5), (206.2, 98.6), (212.8, 103.9)),
                _points((195.3, 100.9), (200.8, 103.9), (207.7, 104.2), (212.8, 103.9)),
            ]
        ),
        np.stack(
            [
                _points((237.6, 105.1), (244.6, 100.4), (251.7, 101.1), (255.5, 103.9)),
                _points((237.6, 105.1), (242.6, 106.0), (249.6, 106.3), (255.5, 103.9)),
            ]
        ),
    ),
    _points((202.6, 139.4), (217.9, 142.7), (223.5, 143.4), (229.2, 143.1), (244.6, 140.8)),
    _points((202.6, 139.4), (217.7, 149.2), (223.1, 150.0), (228.4, 149.7), (244.6, 140.8)),
    teeth_shown=True,
    lid_skin=0.38,
)
PHOTOGRAPHS = {photograph.name: photograph for photograph in (HOPPER, ASTRONAUT)}


@dataclass(frozen=True)
class Look:
    """How an identity differs from its photograph.

    eye_distance_px is the size of the face in the picture, stretch its width over its height; warmth moves red against
    blue; light_degrees is where the light comes from, light how much stronger it is there.
    """

    photograph: str
    mirrored: bool = False
    eye_distance_px: float = 66.0
    stretch: float = 1.0
    gamma: float = 1.0
    saturation: float = 1.0
    warmth: float = 0.0
    light: float = 0.0
    light_degrees: float = 0.0


def load_photograph(name: str) -> Image.Image:
    """Return one of the two photographs from the package that ships it."""
    if name == "hopper":
        from matplotlib import cbook

        with cbook.get_sample_data("grace_hopper.jpg") as file:
            return Image.open(file).convert("RGB")
    from skimage import data

    return Image.fromarray(data.astronaut())


class Portrait:
    """An identity, ready to talk in pictures of one size."""

    def __init__(self, look: Look, width_px: int, height_px: int):
        photograph = PHOTOGRAPHS[look.photograph]
        self._size = (width_px, height_px)
        self._mirrored = look.mirrored
        place = _Place(photograph, look, (width_px + 2 * MARGIN_PX, height_px + 2 * MARGIN_PX))
        self._still = _relight(place.still(), look)
        self._mouth = Mouth(
            self._still, place(photograph.upper_lip), place(photograph.lower_lip), photograph.teeth_shown
        )
        self._eyes = [
            Eye(self._still, place(upper), place(lower), photograph.lid_skin) for upper, lower in photograph.eyes
        ]
        self._middle: tuple[float, float] = tuple(place.face_middle.tolist())

    def picture(
        self, opening: float, rounding: float, pasted: float, blink: float, sway: NDArray[np.float64]
    ) -> Pixels:
        """Return one picture, uint8 [height, width, 3].

        Args:
            opening: 0 closed to 1 wide open.
            rounding: -1 spread to 1 round.
            pasted: 0 for the speaker's own mouth to 1 for a forged one.
            blink: 0 eyes open to 1 shut.
            sway: [4], the picture's shift right and down (up to 6 pixels), turn (0.03 radians), growth (0.03 is 3 %).
        """
        canvas = self._still.copy()
        self._mouth.draw(canvas, opening, rounding, -pasted if self._mirrored else pasted)
        if blink > 0:
            for eye in self._eyes:
                eye.draw(canvas, blink)
        picture = np.asarray(self._cut(Image.fromarray(canvas), sway))
        return np.ascontiguousarray(picture[:, ::-1]) if self._mirrored else picture

    def _cut(self, canvas: Image.Image, sway: NDArray[np.float64]) -> Image.Image:
        """Return the picture cut from the canvas, moved and turned about the face's middle."""
        right, down, turn, growth = np.clip(sway, [-6, -6, -0.03, -0.03], [6, 6, 0.03, 0.03]).tolist()
        (x, y), scale = self._middle, 1 - growth
        across, along = MARGIN_PX - x - right, MARGIN_PX - y - down
        back = (scale, turn, x + scale * across + turn * along, -turn, scale, y + scale * along - turn * across)
        return canvas.transform(self._size, Image.Transform.AFFINE, back, Image.Resampling.BILINEAR)


class _Place:
    """Where a photograph's pixels come to lie on the canvas: scaled, stretched, eyes and mouth about the middle."""

    def __init__(self, photograph: Photograph, look: Look, size: tuple[int, int]):
        self._photograph, self._size = photograph, size
        middles = [eye.reshape(-1, 2).mean(axis=0) for eye in photograph.eyes]
        scale = look.eye_distance_px / float(np.linalg.norm(middles[1] - middles[0]))
        self._scale = np.array([scale * look.stretch, scale], np.float32)
        nose = 0.5 * sum(middles) + np.array([0.0, 0.45 / scale * look.eye_distance_px], np.float32)
        self.face_middle = np.array([0.5, 0.5], np.float32) * size
        self._shift = self.face_middle - self._scale * nose

    def __call__(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the places of these points of the photograph on the canvas."""
        return points * self._scale + self._shift

    def still(self) -> Image.Image:
        """Return the canvas with the photograph on it; beyond its edge the photograph goes on as it ends."""
        photograph = np.asarray(load_photograph(self._photograph.name))
        padded = Image.fromarray(np.pad(photograph, ((_PAD_PX, _PAD_PX), (_PAD_PX, _PAD_PX), (0, 0)), mode="edge"))
        left, top = _PAD_PX - self._shift / self._scale
        right, bottom = np.array([left, top]) + self._size / self._scale
        return padded.resize(self._size, Image.Resampling.BICUBIC, (left, top, right, bottom))


def _relight(still: Image.Image, look: Look) -> Pixels:
    """Return the still under this light, uint8."""
    picture = np.asarray(ImageEnhance.Color(still).enhance(look.saturation), np.float32) / 255
    picture **= look.gamma
    height, width = picture.shape[:2]
    angle = np.deg2rad(look.light_degrees)
    across, down = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    slope = 1 + look.light * (across * np.cos(angle) + down * np.sin(angle))
    tint = np.array([1 + look.warmth, 1.0, 1 - look.warmth])
    return np.clip(255 * picture * slope[..., None] * tint + 0.5, 0, 255).astype(np.uint8)
