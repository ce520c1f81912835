"""A plan on this machine: find what is missing, do it part by part, stop when asked, lose nothing."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from avfeat.encoders import resolve
from avfeat.extract import ClipResult
from avfeat.manifest import Manifest
from avfeat.options import Options, Report
from avfeat.plan import Task
from avfeat.progress import Progress
from avfeat.session import Session, worker_count
from avfeat.store import overlay

SAMPLE_CLIPS = 4
"""How many clips a dry run measures."""


def extract(
    manifest: Manifest,
    root: Path,
    features: Sequence[str],
    store: Path,
    options: Options | None = None,
    *,
    weights: Path | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Report:
    """Extract what is missing of ``features`` for the clips of ``manifest`` and return what this run did.

    Safe to run again, and at once from several processes or machines on one disk: a part is committed whole by whoever
    is first, and only missing parts are begun. A bad clip is a failed row with its reason. SIGTERM and Ctrl-C stop it
    after the current part.

    Args:
        manifest: the clips.
        root: the folder that their paths are relative to.
        features: names as users type them, ``<encoder>[.<stream>][@<layer>]``.
        store: folder of the store, made when it is not there.
        options: how.
        weights: a file or folder in place of an encoder's own weights; needs a single encoder.
        seed: random weights with this seed in place of trained ones; names get ``-random``.
        settings: an encoder's named choices; needs a single encoder.

    Raises:
        AvfeatError: nothing can be extracted here; what was committed before stands.
    """
    options = options or Options()
    began = time.monotonic()
    session = Session(manifest, root, store, resolve(features, weights=weights, seed=seed, settings=settings), options)
    tasks = session.tasks()
    report = Report(parts_left=len(tasks))
    session.open(tasks)
    if tasks:
        clips = sum(len(task.clip_ids()) for task in tasks)
        report.spent.workers = worker_count(options.workers, clips)
        with _stop_on_signal() as stop, session.pool(clips) as pool, Progress(clips) as progress:
            for task in tasks:
                if stop.is_set():
                    report.stopped = True
                    break
                session.do(task, pool, report, progress)
                report.parts += 1
                report.parts_left -= 1
    report.seconds = time.monotonic() - began
    return report


@dataclass(frozen=True)
class Estimate:
    """What a run would do, and how long it would take by a few clips that were measured.

    bytes_per_feature: size on disk of the frames still to come, from the sample's rows per second of media.
    seconds: time on this machine with these options, None when no sample could be measured.
    """

    parts: int
    clips: int
    media_seconds: float
    bytes_per_feature: dict[str, int]
    seconds: float | None
    sample_clips: int
    sample_seconds: float


def estimate(
    manifest: Manifest,
    root: Path,
    features: Sequence[str],
    store: Path,
    options: Options | None = None,
    *,
    weights: Path | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Estimate:
    """Return what ``extract`` with the same arguments would do; measures a few clips and leaves the store as it is.

    Raises:
        AvfeatError: as ``extract`` does.
    """
    options = options or Options()
    requests = resolve(features, weights=weights, seed=seed, settings=settings)
    with overlay(store, manifest.key) as sketch:
        return _estimate(manifest, Session(manifest, root, sketch, requests, options))


def _estimate(manifest: Manifest, session: Session) -> Estimate:
    tasks = session.tasks()
    session.open(tasks)
    if not tasks:
        return Estimate(0, 0, 0.0, {}, 0.0, 0, 0.0)
    clip_ids = [clip_id for task in tasks for clip_id in task.clip_ids()]
    known = dict(zip(manifest.clip_ids, manifest.table["duration_seconds"].to_pylist(), strict=True))
    durations = [known[clip_id] for clip_id in clip_ids if known[clip_id]]
    mean = sum(durations) / len(durations) if durations else 0.0
    media_seconds = mean * len(clip_ids)

    sample = spread(tasks[0], SAMPLE_CLIPS)
    results: list[ClipResult] = []
    report = Report()
    with session.pool(len(sample.clip_ids())) as pool:
        jobs = session.jobs(sample)
        # The first clip pays for starting workers and models; a long run does not.
        session.run(jobs[:1], sample, pool, report, lambda index, result: None)
        began = time.monotonic()
        session.run(jobs, sample, pool, report, lambda index, result: results.append(result))
        seconds = time.monotonic() - began
    measured = sum(result.media_seconds for result in results)
    if not measured or not media_seconds:
        return Estimate(len(tasks), len(clip_ids), media_seconds, {}, None, len(results), seconds)
    sizes: dict[str, int] = {}
    for name, form in session.forms().items():
        rows = sum(len(each) for result in results if not isinstance(each := result.rows.get(name), Exception | None))
        sizes[name] = round(rows / measured * form.row_bytes * sum(_media(task, name, known, mean) for task in tasks))
    return Estimate(
        len(tasks), len(clip_ids), media_seconds, sizes, seconds / measured * media_seconds, len(results), seconds
    )


def spread(task: Task, count: int) -> Task:
    """Return the task cut down to at most ``count`` clips spread evenly over it."""
    clip_ids = task.clip_ids()
    chosen = {clip_ids[k * len(clip_ids) // min(count, len(clip_ids))] for k in range(min(count, len(clip_ids)))}
    return Task(task.part, {name: tuple(c for c in ids if c in chosen) for name, ids in task.clips.items()})


def _media(task: Task, name: str, known: dict[str, float | None], mean: float) -> float:
    return sum(known[clip_id] or mean for clip_id in task.clips.get(name, task.clip_ids()))


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """Set the event at SIGTERM or the first Ctrl-C; a second Ctrl-C interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
