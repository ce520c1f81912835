"""One clip in, blocks of views out: what a worker process does, in one pass over the file where that is possible."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avfeat.clip import Clip, Decoded
from avfeat.errors import AvfeatError, ClipError, NoFaceError, NoPicturesError, NoSoundError
from avfeat.landmarks import Face, Track, choose_track, fill_gaps
from avfeat.landmarks_dlib import AnyLandmarker, choose_last
from avfeat.views import SOUND, TRACK, View, ViewMaker, Views, ViewSettings

FOLLOWS_FACE = frozenset({"face", "mouth", "track"})
"""The kinds of view that need to know where the face is."""


@dataclass(frozen=True)
class Job:
    """One clip to be read.

    track: what the store already knows of its face, None to look for it.
    known: what the store then also knows of its pictures, which need not be decoded for the track alone: status, detail
        and picture_seconds of the track's index row.
    """

    clip_id: str
    path: Path
    views: frozenset[View]
    settings: ViewSettings
    track: Track | None = None
    known: Mapping[str, object] = field(default_factory=dict)

    def needs_track(self) -> bool:
        """Whether the landmarker must run over this clip."""
        return self.track is None and any(view.kind in FOLLOWS_FACE for view in self.views)


@dataclass(frozen=True)
class Ready:
    """The worker has started and takes jobs."""


@dataclass(frozen=True)
class Progress:
    """Sent now and then while nothing else is: the clip is alive."""

    frames: int


@dataclass
class Took:
    """Seconds on the clock that one clip took its worker; waiting until the other process listens is none of them."""

    decode: float = 0.0
    landmarks: float = 0.0
    crop: float = 0.0

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Count the time inside as ``what``."""
        started = time.monotonic()
        try:
            yield
        finally:
            setattr(self, what, getattr(self, what) + time.monotonic() - started)


@dataclass(frozen=True)
class Ended:
    """The last word on a clip: what was decoded, its last views (sound, track, reasons for missing views), its time."""

    decoded: Decoded
    views: Views
    took: Took


@dataclass(frozen=True)
class Failed:
    """The clip gives nothing: why."""

    error: ClipError


@dataclass(frozen=True)
class Broken:
    """This machine cannot read any clip that asks for this: why."""

    error: AvfeatError


def produce(job: Job, landmarker: Callable[[str], AnyLandmarker]) -> Iterator[Views | Progress | Ended]:
    """Yield the views of one clip, block by block, and at last one ``Ended``.

    A view that follows the face needs the whole track first, so such views come from a second look at the pictures,
    which ``Clip`` keeps in memory when they fit. All other views are made in the first.

    Raises:
        ClipError: nothing of the clip can be used.
    """
    pictures = any(view.kind not in ("sound", "track") for view in job.views)
    took = Took()
    with took.on("decode"):
        clip = Clip(job.path, job.clip_id, pictures=pictures or job.needs_track(), sound=SOUND in job.views)
    with clip:
        failures = _impossible(clip, job.views)
        track = job.track
        if clip.media.has_video:
            try:
                track = yield from _look(clip, job, landmarker, failures, took)
            except ClipError as error:
                if SOUND not in job.views or SOUND in failures:
                    raise
                # What can be heard is not lost with what cannot be seen.
                failures |= {view: error for view in job.views if view != SOUND}
        with took.on("decode"):
            sound = clip.sound() if SOUND in job.views and SOUND not in failures else None
        if TRACK in job.views and TRACK not in failures and track is not None:
            try:
                fill_gaps(track, clip_id=job.clip_id)
            except NoFaceError as error:
                failures[TRACK] = error
        yield Ended(clip.facts(), Views(0, {}, sound, track, failures), took)


def _look(
    clip: Clip, job: Job, landmarker: Callable[[str], AnyLandmarker], failures: dict[View, ClipError], took: Took
) -> Generator[Views | Progress, None, Track | None]:
    """Yield all views that are pictures, note those that cannot be made in ``failures``, return the track."""
    pictures = frozenset(view for view in job.views if view.kind not in ("sound", "track"))
    plain = frozenset(view for view in pictures if view.kind not in FOLLOWS_FACE)
    track, later = job.track, pictures
    if job.needs_track():
        later = pictures - plain
        faces: list[list[Face]] = []
        size = (clip.media.width or 0, clip.media.height or 0)
        maker = ViewMaker(plain, job.settings, None, job.clip_id, *size)
        start = 0
        for block in _decoded(clip, took):
            with took.on("landmarks"):
                faces.extend(landmarker(job.settings.landmarks).detect(block))
            yield _cut(maker, block, start, took) if plain else Progress(start)
            start += len(block)
        track = (choose_last if job.settings.landmarks == "dlib" else choose_track)(faces, *size)
    if later:
        maker = ViewMaker(later, job.settings, track, job.clip_id, *_size(track, clip))
        failures |= maker.failures
        if later - maker.failures.keys():
            start = 0
            for block in _decoded(clip, took):
                yield _cut(maker, block, start, took)
                start += len(block)
    return track


def _decoded(clip: Clip, took: Took) -> Iterator[NDArray[np.uint8]]:
    blocks = clip.blocks()
    while True:
        with took.on("decode"):
            block = next(blocks, None)
        if block is None:
            return
        yield block


def _cut(maker: ViewMaker, block: NDArray[np.uint8], start: int, took: Took) -> Views:
    with took.on("crop"):
        return Views(start, maker.make(block, start))


def _size(track: Track | None, clip: Clip) -> tuple[int, int]:
    if track is not None:
        return track.width_px, track.height_px
    return clip.media.width or 0, clip.media.height or 0


def _impossible(clip: Clip, views: frozenset[View]) -> dict[View, ClipError]:
    failures: dict[View, ClipError] = {}
    for view in views:
        if view == SOUND and not clip.media.has_audio:
            failures[view] = NoSoundError(f"{clip.clip_id}: the file has no sound track.")
        elif view != SOUND and not clip.media.has_video:
            failures[view] = NoPicturesError(f"{clip.clip_id}: the file has no pictures.")
    return failures
