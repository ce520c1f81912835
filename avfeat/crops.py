"""Where a face is, as arithmetic: landmarks in; similarity transforms, squares and warped windows out. NumPy only.

Coordinates are (x, y) in pixels, the centre of the first pixel at (0, 0). The mouth follows AV-HuBERT's published
preprocessing to the bit where floating point allows: its warp (scikit-image's bilinear ``warp`` on values / 255,
truncated), its forward window and its grey. The tests hold it to tensors that the reference made.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WINDOW = 12
"""Frames whose landmarks are averaged for one transform."""

STABLE = (33, 36, 39, 42, 45)
"""Points that speech does not move: under the nose, and the four corners of the eyes."""

MEAN_FACE = np.array(
    [
        [128.87017960974802, 137.30253355584708],
        [92.52245552947952, 94.36876013925871],
        [112.7724172413806, 94.94360869870115],
        [145.52511509158018, 94.5349986248377],
        [166.67710071343456, 93.56562295717796],
    ]
)
"""Where the stable points lie in a 256 x 256 picture: rows of ``20words_mean_face.npy`` (Auto-AVSR, Apache-2.0)."""

STEADY = (28, 33, 36, 39, 42, 45, 48, 54)
"""Points that Auto-AVSR's own preprocessing aligns: the bridge of the nose and the mouth's corners too."""

STEADY_MEAN_FACE = np.array(
    [
        [128.48854473271905, 106.92459505614299],
        *MEAN_FACE.tolist(),
        [107.16760614090083, 157.19606764242243],
        [152.19284005377082, 156.98711116207943],
    ]
)
"""Where those lie, from the same file."""

CANVAS_PX = 256
"""Side of the picture that the mean face lies in."""

LEFT_EYE, RIGHT_EYE, MOUTH = slice(36, 42), slice(42, 48), slice(48, 68)


def forward_mean(points: NDArray[np.floating], window: int = WINDOW) -> Floats:
    """Return the mean over the frames i … i + window - 1 for each frame i; the last ones share the last full mean.

    Args:
        points: [T, ...], T ≥ 1.
        window: frames; a clip with fewer takes all it has.

    Returns:
        float64, the shape of ``points``.
    """
    window = min(window, len(points))
    full = len(points) - window + 1
    # One addition after the other, as the reference's mean over the first axis does: a pairwise sum differs in the
    # last bit, and truncation after the warp can turn that into a grey level.
    total = points[:full].astype(np.float64)
    for shift in range(1, window):
        total = total + points[shift : shift + full]
    mean = total / window
    return np.concatenate([mean, np.repeat(mean[-1:], window - 1, axis=0)])


def pieces(frames: int, size: int = 2048) -> Iterator[tuple[slice, int]]:
    """Yield stretches of frames whose landmarks together smooth as the whole does, to bound memory on long clips.

    Each is a slice to smooth and the number of frames at its beginning to keep: the rest is only looked ahead at.
    """
    start = 0
    while start < frames:
        stop = start + size if start + size + WINDOW <= frames else frames
        yield slice(start, min(stop + WINDOW - 1, frames)), stop - start
        start = stop


def similarity(points: NDArray[np.floating], target: NDArray[np.floating]) -> Floats:
    """Return the rotation, uniform scale and shift that bring ``points`` closest to ``target`` in least squares.

    Shapes: points [..., n, 2] and target [n, 2] give [..., 2, 3], to be applied to (x, y, 1).

    With points as complex numbers around their means, z and w, the answer is w = a z with a = Σ conj(z) w / Σ |z|²:
    the same optimum as Umeyama's (1991), which never mirrors either. Points that all coincide give scale 0.
    """
    source = points[..., 0] + 1j * points[..., 1]
    wanted = target[..., 0] + 1j * target[..., 1]
    source_mean = source.mean(axis=-1)
    wanted_mean = wanted.mean(axis=-1)
    z = source - source_mean[..., None]
    spread = (z.real**2 + z.imag**2).sum(axis=-1)
    turn = (z.conj() * (wanted - wanted_mean[..., None])).sum(axis=-1) / np.where(spread > 0, spread, np.inf)
    shift = wanted_mean - turn * source_mean
    rows = [np.stack([turn.real, -turn.imag, shift.real], -1), np.stack([turn.imag, turn.real, shift.imag], -1)]
    return np.stack(rows, axis=-2)


def apply(transform: Floats, points: NDArray[np.floating]) -> Floats:
    """Return ``points`` [..., n, 2] moved by ``transform`` [..., 2, 3]."""
    moved: Floats = np.einsum("...ij,...nj->...ni", transform[..., :2], points) + transform[..., None, :, 2]
    return moved


def invert(transform: Floats) -> Floats:
    """Return the ways back of ``transform`` [..., 2, 3]."""
    last = np.broadcast_to([[0.0, 0.0, 1.0]], (*transform.shape[:-2], 1, 3))
    whole: Floats = np.linalg.inv(np.concatenate([transform, last], axis=-2))
    return whole[..., :2, :]


def mouth_transforms(points: NDArray[np.floating], target: Floats = MEAN_FACE, window: int = WINDOW) -> Floats:
    """Return for each frame the similarity [T, 2, 3] from the picture to the canvas of the mean face.

    It is fitted on the stable points of ``forward_mean(points)``; points is [T, 68, 2] without gaps.
    """
    return similarity(forward_mean(points[:, STABLE], window), target)


def steady_transforms(points: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Return the landmarks that Auto-AVSR's preprocessing goes by and their similarities to the mean face's canvas.

    Landmarks are averaged over up to six frames before and as many after, fewer near the ends, and moved so that their
    middle is the frame's own. The similarity is robust: a least median of squares over all pairs of the eight
    ``STEADY`` points, then least squares on the points that are within 2.5 robust standard deviations of it (Rousseeuw
    and Leroy, 1987). The reference leaves that to OpenCV, which tries 13 random pairs.

    Args:
        points: [T, 68, 2] without gaps, all of one shot.

    Returns:
        float64 [T, 68, 2] and [T, 2, 3].
    """
    smooth = centred_mean(points)
    smooth += points.mean(axis=1, keepdims=True, dtype=np.float64) - smooth.mean(axis=1, keepdims=True)
    source = smooth[:, STEADY]
    least = np.full(len(source), np.inf)
    best = np.zeros((len(source), 2, 3))
    for pair in itertools.combinations(range(len(STEADY)), 2):
        candidate = similarity(source[:, pair], STEADY_MEAN_FACE[list(pair)])
        median = np.median(_squared_errors(candidate, source), axis=1)
        better = median < least
        least[better], best[better] = median[better], candidate[better]
    spread = 2.5 * 1.4826 * (1 + 5 / (len(STEADY) - 2)) * np.sqrt(least)
    near = _squared_errors(best, source) <= np.maximum(spread, 0.001)[:, None] ** 2
    transforms = [similarity(one[kept], STEADY_MEAN_FACE[kept]) for one, kept in zip(source, near, strict=True)]
    return smooth, np.stack(transforms)


def centred_mean(points: NDArray[np.floating], reach: int = WINDOW // 2) -> Floats:
    """Return the mean over the frames i - r … i + r for each frame i, with r = ``reach`` or the way to the nearer end.

    Args:
        points: [T, ...], T ≥ 1.
        reach: frames.

    Returns:
        float64, the shape of ``points``.
    """
    frames = len(points)
    own = np.minimum(np.minimum(np.arange(frames), np.arange(frames)[::-1]), reach)
    total = points.astype(np.float64)
    for shift in range(1, reach + 1):
        inside = np.flatnonzero(own >= shift)
        total[inside] += points[inside - shift].astype(np.float64) + points[inside + shift]
    mean: Floats = total / (2 * own + 1).reshape(-1, *[1] * (points.ndim - 1))
    return mean


def _squared_errors(transforms: Floats, points: Floats) -> Floats:
    """Return how far each of the ``STEADY`` points lands from its place, squared: [T, 8]."""
    errors: Floats = ((apply(transforms, points) - STEADY_MEAN_FACE) ** 2).sum(axis=2)
    return errors


def mouth_corners(points: NDArray[np.floating], transforms: Floats, size_px: int) -> NDArray[np.int64]:
    """Return the upper left corner [T, 2] of each frame's mouth window on the canvas.

    The window's centre is the mean of the frame's own mouth points, not smoothed, so that the mouth stays in the middle
    while the head moves; it is held inside the canvas, then rounded half to even.
    """
    half = size_px // 2
    centres = apply(transforms, points[:, MOUTH].astype(np.float64)).mean(axis=1)
    corners: NDArray[np.int64] = np.rint(np.clip(centres, half, CANVAS_PX - half)).astype(np.int64) - half
    return corners


def warp_window(
    picture: NDArray[np.uint8], inverse: Floats, corner: NDArray[np.int64], size_px: int
) -> NDArray[np.uint8]:
    """Return a square window of a warped picture, without warping the rest of it.

    Args:
        picture: [height, width, channels].
        inverse: [2, 3], from the warped picture to ``picture``.
        corner: (x, y) of the window's first pixel in the warped picture.
        size_px: side of the window.

    Returns:
        uint8 [size_px, size_px, channels]. Each value is the bilinear mean of four neighbours in float64, on values
        divided by 255, times 255, truncated; whatever lies outside the picture is 0.
    """
    x = np.arange(corner[0], corner[0] + size_px, dtype=np.float64)
    y = np.arange(corner[1], corner[1] + size_px, dtype=np.float64)[:, None]
    column = (inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]).ravel()
    row = (inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]).ravel()
    left, top = np.floor(column), np.floor(row)
    right_part, bottom_part = column - left, row - top
    region, origin = _surroundings(picture, left, top)
    width = region.shape[1]
    pixels = region.reshape(-1, region.shape[2])
    at = np.clip(top - origin[1], 0, region.shape[0] - 2).astype(np.int64) * width + np.clip(
        left - origin[0], 0, width - 2
    ).astype(np.int64)
    upper = _blend(_unit(pixels, at), _unit(pixels, at + 1), right_part)
    lower = _blend(_unit(pixels, at + width), _unit(pixels, at + width + 1), right_part)
    values = _blend(upper, lower, bottom_part)
    values *= 255.0
    return np.ascontiguousarray(values.astype(np.uint8).T).reshape(size_px, size_px, -1)


def _unit(pixels: NDArray[np.uint8], at: NDArray[np.int64]) -> Floats:
    """Return the pixels at the places ``at`` in 0..1, one channel after the other (six times faster to blend)."""
    planes = np.empty((pixels.shape[1], len(at)))
    return np.divide(np.take(pixels, at, axis=0).T, 255.0, out=planes)


def _blend(first: Floats, second: Floats, part: Floats) -> Floats:
    """Return ``(1 - part) * first + part * second``, in the place of ``first``."""
    first *= 1.0 - part
    second *= part
    first += second
    return first


def _surroundings(picture: NDArray[np.uint8], left: Floats, top: Floats) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Return the part of the picture that the samples touch, framed by two zeros where it meets the border."""
    height, width = picture.shape[:2]
    # Samples further out than two pixels are 0 whatever their place: held at the frame of zeros.
    x0, x1 = (int(np.clip(edge, -2, width)) for edge in (left.min(), left.max()))
    y0, y1 = (int(np.clip(edge, -2, height)) for edge in (top.min(), top.max()))
    region = np.zeros((y1 - y0 + 2, x1 - x0 + 2, picture.shape[2]), np.uint8)
    inner = picture[max(y0, 0) : min(y1 + 2, height), max(x0, 0) : min(x1 + 2, width)]
    below, beside = max(-y0, 0), max(-x0, 0)
    region[below : below + inner.shape[0], beside : beside + inner.shape[1]] = inner
    return region, (x0, y0)


def grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return RGB [..., 3] as grey [...] by OpenCV's integer rule: (9798 R + 19235 G + 3735 B + 2^14) / 2^15."""
    red, green, blue = (picture[..., channel].astype(np.int32) for channel in range(3))
    return ((9798 * red + 19235 * green + 3735 * blue + (1 << 14)) >> 15).astype(np.uint8)


def face_squares(points: NDArray[np.floating], margin: float) -> tuple[Floats, Floats, Floats]:
    """Return the upright square around the face in each frame: centres [T, 2], sides [T], angles [T] in radians.

    All is read from ``forward_mean(points)``: the angle is that of the line from the left eye's middle to the right
    one's; in the picture turned back by it, the tight box of all 68 points has a longer side, and the square has
    ``margin`` times that and the box's middle. Then the square moves by as much as the frame's own stable points lie
    off their smoothed selves, so that it keeps up with the head and an opening mouth does not shake it.
    """
    smooth = forward_mean(points)
    eyes = smooth[:, RIGHT_EYE].mean(axis=1) - smooth[:, LEFT_EYE].mean(axis=1)
    angles = np.arctan2(eyes[:, 1], eyes[:, 0])
    turned = apply(_rotation(-angles), smooth)
    low, high = turned.min(axis=1), turned.max(axis=1)
    middle = apply(_rotation(angles), ((low + high) / 2)[:, None])[:, 0]
    moved = points[:, STABLE].astype(np.float64).mean(axis=1) - smooth[:, STABLE].mean(axis=1)
    return middle + moved, margin * (high - low).max(axis=1), angles


def _rotation(angles: Floats) -> Floats:
    cosine, sine, zero = np.cos(angles), np.sin(angles), np.zeros_like(angles)
    return np.stack([np.stack([cosine, -sine, zero], -1), np.stack([sine, cosine, zero], -1)], axis=-2)
