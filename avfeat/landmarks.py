"""Pictures in, landmarks out: find the faces, choose the one to follow, fill short gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from avfeat.errors import NoFaceError, StoreError
from avfeat.landmarks_model import BLENDSHAPES, MODEL_SHA256, POINTS, Face, Landmarker, find_model
from avfeat.timeline import RATE_HZ

__all__ = [
    "MAX_GAP_SECONDS",
    "MODEL_SHA256",
    "TRACK_WIDTH",
    "Face",
    "Landmarker",
    "Track",
    "choose_track",
    "fill_gaps",
    "find_model",
    "shots",
]

TRACK_WIDTH = POINTS * 2 + BLENDSHAPES + 2
"""Numbers in a row of ``Track.to_rows``."""

MAX_GAP_SECONDS = 0.5
"""A face that is away for longer is gone."""

_GAP_FRAMES = int(MAX_GAP_SECONDS * RATE_HZ)
_LEAST_FRAMES = 5
_FARTHEST = 0.5
_FARTHEST_AFTER_GAP = 1.0
_MOST_GROWTH = 1.6

_NO_POINTS, _SEEN, _FILLED = 0, 1, 2


@dataclass(frozen=True)
class Track:
    """The followed face's landmarks over a clip, one row for each frame of the 25 Hz timeline.

    points: float32 [T, 68, 2], (x, y) in pixels of the displayed picture, in dlib's order; NaN where no face is.
    blendshapes: float32 [T, 52], MediaPipe's coefficients in 0..1; NaN where no face is.
    found: bool [T], whether the landmarker saw the followed face in this very frame.
    faces: uint8 [T], how many faces the landmarker saw.
    width_px, height_px: size of the displayed picture.
    """

    points: NDArray[np.float32]
    blendshapes: NDArray[np.float32]
    found: NDArray[np.bool_]
    faces: NDArray[np.uint8]
    width_px: int
    height_px: int

    def to_rows(self) -> NDArray[np.float32]:
        """Return float32 [T, TRACK_WIDTH], finite throughout, as a store keeps it.

        A row is 136 numbers of points (x and y in turn), 52 blendshapes, a state (0: no points, all of them written as
        0; 1: seen in this frame; 2: filled in between others) and the number of faces.
        """
        known = _known(self)
        rows = np.zeros((len(known), TRACK_WIDTH), np.float32)
        rows[known, : POINTS * 2] = self.points[known].reshape(-1, POINTS * 2)
        rows[known, POINTS * 2 : -2] = self.blendshapes[known]
        rows[:, -2] = np.where(self.found, _SEEN, np.where(known, _FILLED, _NO_POINTS))
        rows[:, -1] = self.faces
        return rows

    @classmethod
    def from_rows(cls, rows: NDArray[np.float32], width_px: int, height_px: int) -> Track:
        """Return the track whose ``to_rows`` gave ``rows``.

        Raises:
            StoreError: the rows have another width.
        """
        if rows.ndim != 2 or rows.shape[1] != TRACK_WIDTH:
            raise StoreError(f"a track has rows of {TRACK_WIDTH} numbers, not an array of shape {rows.shape}.")
        state = rows[:, -2]
        values = rows[:, :-2].astype(np.float32)
        values[state == _NO_POINTS] = np.nan
        points = values[:, : POINTS * 2].reshape(-1, POINTS, 2)
        return cls(points, values[:, POINTS * 2 :], state == _SEEN, rows[:, -1].astype(np.uint8), width_px, height_px)


@dataclass(frozen=True, slots=True)
class _Sighting:
    """One face in one frame, with the middle and the size (root of the area) of its tight box."""

    frame: int
    face: Face
    middle: NDArray[np.float64]
    size: float


def choose_track(faces_per_frame: Sequence[Sequence[Face]], width_px: int, height_px: int) -> Track:
    """Return the face to follow through a clip, whatever order the faces of a frame come in.

    1. Faces of different frames make a chain while they look like one person: from one sighting to the next the box's
       middle moves by at most half the box's size (up to one size after the longest gap), the size changes by at most
       1.6 times, and at most 0.5 s lie between. Where faces and chains could pair in several ways, the closest pair
       goes first.
    2. A chain weighs the sum of its boxes' areas over its frames: large and lasting faces count.
    3. The heaviest chain is followed from its first to its last sighting; nobody else is followed in its gaps.
    4. What lies outside is given to the next heaviest chain that shares at most 0.5 s with those already followed
       (as a dissolve does; the heavier one keeps the shared frames) and has at least 5 frames of its own; and so on.
       So a clip with cuts follows one person per shot, and when the followed person leaves, someone who was in the
       picture all the time is not taken instead: those frames are without a face.

    Args:
        faces_per_frame: for each frame of the 25 Hz timeline the faces that ``Landmarker.detect`` saw.
        width_px, height_px: size of the displayed picture.

    Returns:
        A track with NaN wherever no face is followed, or the followed one was not seen.
    """
    count = len(faces_per_frame)
    points = np.full((count, POINTS, 2), np.nan, np.float32)
    blendshapes = np.full((count, BLENDSHAPES), np.nan, np.float32)
    found = np.zeros(count, bool)
    for sighting in _followed(_chains(faces_per_frame), count):
        points[sighting.frame] = sighting.face.points
        blendshapes[sighting.frame] = sighting.face.blendshapes
        found[sighting.frame] = True
    faces = np.array([len(each) for each in faces_per_frame], np.uint8)
    return Track(points, blendshapes, found, faces, width_px, height_px)


def _chains(faces_per_frame: Sequence[Sequence[Face]]) -> list[list[_Sighting]]:
    ended: list[list[_Sighting]] = []
    running: list[list[_Sighting]] = []
    for frame, faces in enumerate(faces_per_frame):
        ended += [chain for chain in running if frame - chain[-1].frame - 1 > _GAP_FRAMES]
        running = [chain for chain in running if frame - chain[-1].frame - 1 <= _GAP_FRAMES]
        sightings = _sight(frame, faces)
        free_chains, free_sightings = set(range(len(running))), set(range(len(sightings)))
        for _, each, which in _pairs([chain[-1] for chain in running], sightings):
            if each in free_chains and which in free_sightings:
                running[each].append(sightings[which])
                free_chains.remove(each)
                free_sightings.remove(which)
        running += [[sightings[which]] for which in sorted(free_sightings)]
    return ended + running


def _sight(frame: int, faces: Sequence[Face]) -> list[_Sighting]:
    """Return the faces of one frame in an order of their own, so that ties do not depend on the one they came in."""
    if not faces:
        return []
    middles, sizes = _boxes(np.stack([face.points for face in faces]))
    sightings = (_Sighting(frame, *each) for each in zip(faces, middles, sizes.tolist(), strict=True))
    return sorted(sightings, key=_rank)


def _pairs(lasts: list[_Sighting], sightings: list[_Sighting]) -> list[tuple[float, int, int]]:
    """Return who could be whom, the most alike first: how unlike, place in ``lasts``, place in ``sightings``."""
    if not lasts or not sightings:
        return []
    middles, sizes, frames = zip(*((each.middle, each.size, each.frame) for each in lasts), strict=True)
    cost = _strangeness(
        np.stack(middles)[:, None],
        np.array(sizes)[:, None],
        np.stack([each.middle for each in sightings]),
        np.array([each.size for each in sightings]),
        sightings[0].frame - np.array(frames)[:, None] - 1,
    )
    return sorted((float(cost[each, which]), int(each), int(which)) for each, which in np.argwhere(cost < np.inf))


def _rank(sighting: _Sighting) -> tuple[float, list[float], bytes, bytes]:
    face = sighting.face
    return -sighting.size, sighting.middle.tolist(), face.points.tobytes(), face.blendshapes.tobytes()


def _boxes(points: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the middles [T, 2] and sizes [T] (root of the area, at least one pixel) of the points' tight boxes."""
    low, high = points.min(axis=1).astype(np.float64), points.max(axis=1).astype(np.float64)
    return (low + high) / 2, np.sqrt(np.maximum((high - low).prod(axis=1), 1))


def _strangeness(
    middle_before: NDArray[np.float64],
    size_before: NDArray[np.float64],
    middle_after: NDArray[np.float64],
    size_after: NDArray[np.float64],
    gap_frames: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return how unlike two sightings of one person these are: middles [..., 2] and the rest [...]; infinite if too."""
    distance = np.linalg.norm(middle_after - middle_before, axis=-1) / np.sqrt(size_before * size_after)
    growth = np.maximum(size_before / size_after, size_after / size_before)
    reach = _FARTHEST + (_FARTHEST_AFTER_GAP - _FARTHEST) * np.minimum(gap_frames / _GAP_FRAMES, 1)
    return np.where((distance <= reach) & (growth <= _MOST_GROWTH), distance + np.log(growth), np.inf)


def _weight(chain: list[_Sighting]) -> tuple[object, ...]:
    return -sum(each.size**2 for each in chain), chain[0].frame, _rank(chain[0])


def _followed(chains: list[list[_Sighting]], count: int) -> list[_Sighting]:
    chosen: list[_Sighting] = []
    taken = np.zeros(count, bool)
    for chain in sorted(chains, key=_weight):
        span = slice(chain[0].frame, chain[-1].frame + 1)
        own = [each for each in chain if not taken[each.frame]]
        if chosen and (taken[span].sum() > _GAP_FRAMES or len(own) < _LEAST_FRAMES):
            continue
        chosen += own
        taken[span] = True
    return chosen


def fill_gaps(track: Track, max_gap_seconds: float = MAX_GAP_SECONDS, clip_id: str = "the clip") -> Track:
    """Return the track with points and blendshapes in every frame; ``found`` stays as it is.

    Between two sightings of one person values go in a straight line; between two persons (a cut), before the first
    sighting and after the last they are copies of the nearest.

    Args:
        track: may be filled already.
        max_gap_seconds: longest stretch without a face that is filled; infinity fills all.
        clip_id: named in the error.

    Raises:
        NoFaceError: there is no face at all, or none for longer than that; says when.
    """
    known = np.flatnonzero(_known(track))
    count = len(track.found)
    if not len(known):
        raise NoFaceError(f"{clip_id}: no face was found in any of its {count} frames.")
    edges = np.concatenate([[-1], known, [count]])
    long = np.flatnonzero((np.diff(edges) - 1) / RATE_HZ > max_gap_seconds)
    if len(long):
        more = f" and in {len(long) - 1} more stretches" if len(long) > 1 else ""
        start, stop = (edges[long[0]] + 1) / RATE_HZ, edges[long[0] + 1] / RATE_HZ
        raise NoFaceError(
            f"{clip_id}: no face from {start:.2f} s to {stop:.2f} s{more}, more than the {max_gap_seconds:g} s allowed."
        )
    gaps = np.setdiff1d(np.arange(count), known)
    place = np.searchsorted(known, gaps)
    before, after = known[np.maximum(place - 1, 0)], known[np.minimum(place, len(known) - 1)]
    part = (gaps - before) / np.maximum(after - before, 1)
    part = np.where(_continues(track, before, after), part, part > 0.5)  # a bool here: one copy or the other
    return replace(
        track,
        points=_filled(track.points, gaps, before, after, part),
        blendshapes=_filled(track.blendshapes, gaps, before, after, part),
    )


def _filled(
    values: NDArray[np.float32],
    gaps: NDArray[np.int64],
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    part: NDArray[np.float64],
) -> NDArray[np.float32]:
    filled = values.copy()
    first, second = values[before].astype(np.float64), values[after].astype(np.float64)
    filled[gaps] = first + part.reshape(-1, *[1] * (values.ndim - 1)) * (second - first)
    return filled


def shots(track: Track) -> list[slice]:
    """Return the stretches of a filled track in which one person is followed, in order, together all frames.

    Between two of them the face jumps further than rule 1 of ``choose_track`` lets one person move: there was a cut,
    and landmarks of one side say nothing about the other.
    """
    frames = np.arange(1, len(track.found))
    cuts = frames[~_continues(track, frames - 1, frames)]
    edges = [0, *cuts.tolist(), len(track.found)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _continues(track: Track, before: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for each pair of frames with points whether they show one person by rule 1, but for the time between."""
    middles, sizes = _boxes(track.points)
    gap = np.maximum(after - before - 1, 0)
    return _strangeness(middles[before], sizes[before], middles[after], sizes[after], gap) < np.inf


def _known(track: Track) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(track.points).all(axis=(1, 2)))
