"""One part: clips through workers into views, views through encoders into rows, rows into the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from avfeat.clip import Decoded
from avfeat.encoders.base import Encoder, Encoding, FeatureName, Late, Rows, check_rows
from avfeat.errors import ClipError, CrashError, EncoderError
from avfeat.landmarks import Track
from avfeat.options import Spent
from avfeat.pool import Again, Pool
from avfeat.produce import FOLLOWS_FACE, Ended, Failed, Job
from avfeat.timeline import RATE_HZ, SOUND_RATE_HZ
from avfeat.views import Views

TRACK_FEATURE = "track"
"""The feature that keeps the landmarks themselves, so that later encoders need not look for the face again."""

Facts = dict[str, object]


@dataclass(frozen=True)
class ClipResult:
    """What one clip came to: for each feature its rows or why there are none, and the facts of its index row.

    ``first_seconds`` has the time of the first row for those features whose card is not right about it in this clip.
    """

    clip_id: str
    rows: Mapping[str, Rows | ClipError]
    facts: Mapping[str, object]
    media_seconds: float
    first_seconds: Mapping[str, float] = field(default_factory=dict)


Finished = Callable[[int, ClipResult], None]
"""Takes the index of a job and what its clip came to."""


@dataclass
class _InWork:
    """One clip whose blocks are coming in."""

    encodings: list[tuple[Encoder, Encoding]]
    failures: dict[Encoder, ClipError] = field(default_factory=dict)


@dataclass(frozen=True)
class _Waiting:
    """One clip whose blocks are all there, to be finished."""

    index: int
    job: Job
    names: Sequence[FeatureName]
    work: _InWork
    ended: Ended

    @property
    def seconds(self) -> float:
        return _seconds(self.ended.decoded)


MOST_WAITING = 32
"""Clips that wait for each other at most: each may hold a batch of pictures."""


def encode_clips(
    jobs: Sequence[Job],
    wanted: Mapping[str, Sequence[FeatureName]],
    encoders: Sequence[Encoder],
    pool: Pool,
    spent: Spent,
    finished: Finished,
    together_seconds: float = 0.0,
) -> None:
    """Run ``jobs`` and call ``finished(index, result)`` for each, in whatever order they end.

    Args:
        jobs: one for each clip.
        wanted: for each clip id the features to compute; ``track`` comes by itself when the job looks for it.
        encoders: those that give these features.
        pool: the workers.
        spent: counts seconds as they go.
        finished: takes each result; its time counts as writing.
        together_seconds: clips wait until so much media has come, and then go through the networks together; 0: none
            waits.

    Raises:
        AvfeatError: what no clip can help: the machine, or an encoder that breaks its card.
    """
    works: dict[int, _InWork] = {}
    waiting: list[_Waiting] = []
    for index, message in pool.run(jobs):
        job = jobs[index]
        names = wanted[job.clip_id]
        if isinstance(message, Again):
            works.pop(index, None)
            continue
        if isinstance(message, Failed):
            works.pop(index, None)
            every: dict[str, Rows | ClipError] = {str(name): message.error for name in names}
            if job.needs_track():
                every[TRACK_FEATURE] = message.error
            finished(index, ClipResult(job.clip_id, every, {}, 0.0))
            continue
        if index not in works:
            works[index] = _InWork([(each, each.begin()) for each in encoders if set(each.wanted) & set(names)])
        work = works[index]
        started = time.monotonic()
        _take(work, message.views if isinstance(message, Ended) else message, job.clip_id)
        spent.encode += time.monotonic() - started
        if isinstance(message, Ended):
            waiting.append(_Waiting(index, job, names, works.pop(index), message))
            if len(waiting) == MOST_WAITING or sum(each.seconds for each in waiting) >= together_seconds:
                _finish_together(waiting, spent, finished)
                waiting = []
    _finish_together(waiting, spent, finished)


def _finish_together(waiting: Sequence[_Waiting], spent: Spent, finished: Finished) -> None:
    """Finish clips whose blocks are all there."""
    started = time.monotonic()
    if len(waiting) > 1:
        _run_together([each.work for each in waiting])
    spent.encode += time.monotonic() - started
    for clip in waiting:
        started = time.monotonic()
        job, ended = clip.job, clip.ended
        rows, first_seconds = _finish(clip.work, ended.views, clip.names, job.clip_id)
        encoded = time.monotonic()
        spent.encode += encoded - started
        track = ended.views.track
        if track is not None and job.track is None:
            rows[TRACK_FEATURE] = track.to_rows()
        elif job.needs_track():
            rows[TRACK_FEATURE] = next(e for view, e in ended.views.failures.items() if view.kind in FOLLOWS_FACE)
        facts = clip_facts(ended.decoded, track, job.known)
        finished(clip.index, ClipResult(job.clip_id, rows, facts, clip.seconds, first_seconds))
        spent.media += clip.seconds
        spent.write += time.monotonic() - encoded
        for what, seconds in asdict(ended.took).items():
            setattr(spent, what, getattr(spent, what) + seconds)


def _run_together(works: Sequence[_InWork]) -> None:
    """Let each encoder do what is left of these clips at once."""
    encodings: dict[Encoder, list[Encoding]] = {}
    for work in works:
        for encoder, encoding in work.encodings:
            if encoder not in work.failures:
                encodings.setdefault(encoder, []).append(encoding)
    for encoder, each in encodings.items():
        # What fails together is tried alone, so that a clip's fault is its own and memory for one clip is enough.
        with suppress(Exception):
            encoder.together(each)


def _take(work: _InWork, views: Views, clip_id: str) -> None:
    for encoder, encoding in work.encodings:
        if encoder in work.failures:
            continue
        try:
            encoding.take(views)
        except ClipError as error:
            work.failures[encoder] = error
        except EncoderError:
            raise
        except Exception as error:
            work.failures[encoder] = _unforeseen(encoder, clip_id, error)


def _finish(
    work: _InWork, last: Views, names: Sequence[FeatureName], clip_id: str
) -> tuple[dict[str, Rows | ClipError], dict[str, float]]:
    results: dict[str, Rows | ClipError] = {}
    first_seconds: dict[str, float] = {}
    for encoder, encoding in work.encodings:
        possible: list[FeatureName] = []
        for name in encoder.wanted:
            if name not in names:
                continue
            missing = [last.failures[view] for view in encoder.card.output(name).reads if view in last.failures]
            if missing:
                results[str(name)] = missing[0]
            elif encoder in work.failures:
                results[str(name)] = _named(work.failures[encoder], clip_id)
            else:
                possible.append(name)
        try:
            given = encoding.finish(possible) if possible else {}
            for name in possible:
                value = given[name]
                if isinstance(value, Late):
                    first_seconds[str(name)] = encoder.card.first_seconds + value.seconds
                    value = value.rows
                if not isinstance(value, ClipError):
                    value = _checked(encoder, name, value)
                results[str(name)] = _named(value, clip_id) if isinstance(value, ClipError) else value
        except ClipError as error:
            results |= {str(name): _named(error, clip_id) for name in possible}
        except EncoderError:
            raise
        except Exception as error:
            results |= {str(name): _unforeseen(encoder, clip_id, error) for name in possible}
    return results, first_seconds


def _checked(encoder: Encoder, name: FeatureName, rows: Rows) -> Rows | ClipError:
    try:
        return check_rows(encoder.card, name, rows)
    except ClipError as error:
        return error


def _named(error: ClipError, clip_id: str) -> ClipError:
    """Return the error with the clip's name in its sentence: an encoder does not know which clip it is given."""
    return error if clip_id in str(error) else type(error)(f"{clip_id}: {error}")


def _unforeseen(encoder: Encoder, clip_id: str, error: Exception) -> CrashError:
    return CrashError(f"{clip_id}: {encoder.card.name} failed on it ({type(error).__name__}: {error}).")


def clip_facts(decoded: Decoded, track: Track | None, known: Mapping[str, object]) -> Facts:
    """Return the facts of an index row: status, what was odd, how long each stream is, how often a face was seen.

    ``known`` stands in for pictures that were not decoded this time.
    """
    pictures = {} if decoded.frames else known
    details = dict.fromkeys(str(each) for each in (pictures.get("detail"), decoded.detail) if each)
    facts: Facts = {
        "status": "truncated" if "truncated" in (pictures.get("status"), decoded.status) else "done",
        "detail": " ".join(details),
        "picture_seconds": decoded.frames / RATE_HZ if decoded.frames else known.get("picture_seconds"),
        "sound_seconds": decoded.sound_samples / SOUND_RATE_HZ if decoded.sound_samples else None,
    }
    if track is not None and len(track.found):
        facts |= {
            "face_ratio": float(track.found.mean()),
            "faces_max": int(track.faces.max()),
            "width_px": track.width_px,
            "height_px": track.height_px,
        }
    return facts


def _seconds(decoded: Decoded) -> float:
    return max(decoded.frames / RATE_HZ, decoded.sound_samples / SOUND_RATE_HZ)
