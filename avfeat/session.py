"""One run against one store: what was asked, which parts lack it, and how one part is done."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from avfeat.device import resolve_device
from avfeat.encoders import build_encoder, card_of
from avfeat.encoders.base import Encoder, Request
from avfeat.errors import ClipError, EncoderError, NotFiniteError
from avfeat.extract import TRACK_FEATURE, ClipResult, Finished, encode_clips
from avfeat.landmarks import TRACK_WIDTH, Track, find_model
from avfeat.landmarks_dlib import find_predictor
from avfeat.manifest import Manifest
from avfeat.options import Options, Report
from avfeat.plan import Task, choose
from avfeat.pool import Pool
from avfeat.produce import FOLLOWS_FACE, Job
from avfeat.progress import Progress
from avfeat.provenance import feature_attributes, track_attributes
from avfeat.store import Feature, Group
from avfeat.store_layout import Form
from avfeat.store_write import PartWriter
from avfeat.views import TRACK, View

TOGETHER_SECONDS = 60.0
"""Media that goes through a GPU's networks together; on a CPU batches are no sure gain (bench/encoders.py)."""


class Session:
    """What one call of ``extract`` asks of one store.

    Args:
        manifest: the clips.
        root: the folder that their paths are relative to.
        store: the store's folder, made if need be.
        requests: the encoders and what is wanted of each.
        options: how.

    Raises:
        StoreError: the store contradicts the options, or cannot be written.
        EncoderError: an encoder reads what these landmarks do not give.
    """

    def __init__(self, manifest: Manifest, root: Path, store: Path, requests: Sequence[Request], options: Options):
        self._root = root
        how: Any = {name: getattr(options, name) for name in ("dtype_compute", "compile")}
        self._requests = [replace(request, **how) for request in requests]
        self._options = options
        self._group = Group.ensure(store, manifest, options.part_clips)
        self._paths = dict(zip(manifest.clip_ids, manifest.table["path"].to_pylist(), strict=True))
        self._names = {str(name): name for request in requests for name in request.wanted}
        self._reads = {
            str(name): frozenset(card_of(request.encoder, request.settings).output(name).reads)
            for request in requests
            for name in request.wanted
        }
        if options.views.landmarks == "dlib":
            _refuse_blendshapes(self._reads)
        self._device = "cpu"
        self._encoders: list[Encoder] = []
        self._features: dict[str, Feature] = {}

    def tasks(self) -> list[Task]:
        """Return the parts of our share that lack something that was asked for, in order."""
        there = self._group.features()
        lacking: dict[int, dict[str, tuple[str, ...]]] = {}
        for name in self._names:
            for number, clip_ids in self._lacks(self._group[name] if name in there else None).items():
                lacking.setdefault(number, {})[name] = clip_ids
        parts = choose(self._group.parts, self._options.shard, self._options.limit)
        return [Task(part, lacking[part.number]) for part in parts if part.number in lacking]

    def open(self, tasks: Sequence[Task]) -> None:
        """Build the encoders that ``tasks`` need, and make their features or compare them with those in the store.

        So are those of which nothing is missing, where they may have been made otherwise.

        Raises:
            AvfeatError: weights are missing, or the store holds a feature of that name made otherwise.
        """
        needed = {name for task in tasks for name in task.clips} | self._in_doubt()
        if not needed:
            return
        self._device = resolve_device(self._options.device)
        for request in self._requests:
            wanted = tuple(name for name in request.wanted if str(name) in needed)
            if wanted:
                self._encoders.append(build_encoder(replace(request, wanted=wanted, device=self._device)))
        asked = {str(name): _asked(request) for request in self._requests for name in request.wanted}
        for encoder in self._encoders:
            for name in encoder.wanted:
                attributes = feature_attributes(encoder, name, self._options.views) | {"asked": asked[str(name)]}
                width = encoder.card.output(name).width
                self._ensure(str(name), attributes, width, self._options.dtype)
        if any(self._follows_face(name) for name in needed):
            self._ensure(TRACK_FEATURE, track_attributes(self._options.views), TRACK_WIDTH, "float32")

    def pool(self, clips: int) -> Pool:
        """Return the workers that read ``clips`` clips, not yet started."""
        model = landmarker_model(self._options) if TRACK_FEATURE in self._features else None
        return Pool(worker_count(self._options.workers, clips), model, self._options.silent_seconds)

    def jobs(self, task: Task) -> list[Job]:
        """Return what a worker needs to know of each clip of a task; landmarks that the store holds are in it."""
        following = {clip_id for name, ids in task.clips.items() if self._follows_face(name) for clip_id in ids}
        known = self._known(following)
        return [
            Job(
                clip_id,
                self._root / self._paths[clip_id],
                frozenset(view for name, ids in task.clips.items() if clip_id in ids for view in self._reads[name]),
                self._options.views,
                *known.get(clip_id, (None, {})),
            )
            for clip_id in task.clip_ids()
        ]

    def run(self, jobs: Sequence[Job], task: Task, pool: Pool, report: Report, finished: Finished) -> None:
        """Put the clips of a task through the encoders; nothing is written."""
        wanted = {
            job.clip_id: [self._names[name] for name, ids in task.clips.items() if job.clip_id in ids] for job in jobs
        }
        together = 0.0 if self._device == "cpu" else TOGETHER_SECONDS
        encode_clips(jobs, wanted, self._encoders, pool, report.spent, finished, together)

    def do(self, task: Task, pool: Pool, report: Report, progress: Progress) -> None:
        """Do one part: every clip through its encoders, then commit each feature.

        Raises:
            AvfeatError: the disk or the machine refuses; what was committed before stands.
        """
        jobs = self.jobs(task)
        clips = dict(task.clips)
        seeking = tuple(job.clip_id for job in jobs if job.needs_track())
        if seeking and (seeking == task.part.clip_ids or self._again(task)):
            clips[TRACK_FEATURE] = seeking
        with ExitStack() as stack:
            writers: dict[str, PartWriter] = {}
            for name in clips:
                feature = self._features[name]
                attempt = feature.next_attempt(task.part.number)
                writers[name] = stack.enter_context(feature.part_writer(task.part.number, attempt))
            order = _InOrder(clips, writers, report, progress)
            self.run(jobs, task, pool, report, order.finished)
            started = time.monotonic()
            for writer in writers.values():
                writer.commit()
            report.spent.write += time.monotonic() - started

    def forms(self) -> dict[str, Form]:
        """Return how the frames of each feature that this run makes lie on disk."""
        return {name: feature.form for name, feature in self._features.items()}

    def _in_doubt(self) -> set[str]:
        """Return the names in the store that were asked for in other words than now: only a comparison can tell."""
        there = self._group.features()
        found: set[str] = set()
        for request in self._requests:
            for name in (each for each in map(str, request.wanted) if each in there):
                feature = self._group[name]
                asked, views = feature.attributes.get("asked"), feature.attributes["identity"].get("views")
                form = feature.form.dtype, feature.form.codec
                if asked is not None and (
                    asked != _asked(request)
                    or views not in (None, asdict(self._options.views))
                    or form != (self._options.dtype, self._options.codec)
                ):
                    found.add(name)
        return found

    def _again(self, task: Task) -> bool:
        """Whether failed tracks of a part may be written anew: a first attempt must hold every clip of its part."""
        return self._options.retry_failed and self._features[TRACK_FEATURE].next_attempt(task.part.number) > 0

    def _follows_face(self, name: str) -> bool:
        return any(view.kind in FOLLOWS_FACE for view in self._reads[name])

    def _lacks(self, feature: Feature | None) -> dict[int, tuple[str, ...]]:
        """Return for each part the clips to be done: all of a missing part, or the failed ones of any."""
        if self._options.retry_failed:
            return {} if feature is None else feature.failed_clips()
        missing = self._group.parts if feature is None else feature.missing_parts()
        return {part.number: part.clip_ids for part in missing}

    def _ensure(self, name: str, attributes: Mapping[str, Any], width: int, dtype: str) -> None:
        self._features[name] = self._group.ensure_feature(name, attributes, width, dtype, self._options.codec)

    def _known(self, clip_ids: set[str]) -> dict[str, tuple[Track, Mapping[str, object]]]:
        """Return the tracks that the store holds, and what their index rows say of the pictures."""
        if not clip_ids:
            return {}
        feature = self._features[TRACK_FEATURE]
        feature.refresh()
        index = feature.index()
        index = index.filter(pc.is_in(index["clip_id"], pa.array(sorted(clip_ids), pa.string())))
        rows = index.select(["clip_id", "status", "detail", "picture_seconds", "width_px", "height_px"]).to_pylist()
        return {
            row["clip_id"]: (
                Track.from_rows(feature.clip(row["clip_id"]), row["width_px"], row["height_px"]),
                {key: row[key] for key in ("status", "detail", "picture_seconds")},
            )
            for row in rows
            if row["status"] != "failed"
        }


def landmarker_model(options: Options) -> Path | None:
    """Return MediaPipe's model file for the workers; None where dlib finds its own, after seeing that it is there.

    Raises:
        SetupError: dlib is not installed.
        WeightsError: the file cannot be had, or is another one.
    """
    if options.views.landmarks == "dlib":
        find_predictor()
        return None
    return find_model(options.landmarker)


class _InOrder:
    """Writes results in the order of the clips, whatever order they come in, and counts them."""

    def __init__(
        self,
        clips: Mapping[str, Sequence[str]],
        writers: Mapping[str, PartWriter],
        report: Report,
        progress: Progress,
    ):
        self._clips = {name: frozenset(clip_ids) for name, clip_ids in clips.items()}
        self._writers = writers
        self._report = report
        self._progress = progress
        self._waiting: dict[int, ClipResult] = {}
        self._next = 0

    def finished(self, index: int, result: ClipResult) -> None:
        self._waiting[index] = result
        while self._next in self._waiting:
            self._write(self._waiting.pop(self._next))
            self._next += 1

    def _write(self, result: ClipResult) -> None:
        failed = False
        for name, writer in self._writers.items():
            if result.clip_id not in self._clips[name]:
                continue
            value, facts = result.rows[name], dict(result.facts)
            if name in result.first_seconds:
                facts["first_seconds"] = result.first_seconds[name]
            if not isinstance(value, ClipError):
                try:
                    writer.add(result.clip_id, value, facts)
                    continue
                except NotFiniteError as error:
                    value = error
            writer.fail(result.clip_id, value, facts)
            kinds = self._report.failures.setdefault(name, {})
            kinds[value.kind] = kinds.get(value.kind, 0) + 1
            failed = True
        self._report.clips += 1
        self._progress.advance(done=not failed, failed=failed)


def worker_count(asked: int | None, clips: int) -> int:
    """Return how many processes read clips: what was asked, else one for each CPU we may use, never more than clips."""
    return max(1, min(asked or len(os.sched_getaffinity(0)), clips))


def _refuse_blendshapes(reads: Mapping[str, frozenset[View]]) -> None:
    for name, views in reads.items():
        if TRACK in views:
            raise EncoderError(
                f"{name} reads blendshapes, which dlib does not give: extract it with MediaPipe's landmarks, into "
                "another store."
            )


def _asked(request: Request) -> dict[str, Any]:
    """Return what it takes to build the encoder again; never compared: ``identity`` says whether it is the same."""
    weights = None if request.weights is None else str(request.weights.resolve())
    return {
        "encoder": request.encoder,
        "weights": weights,
        "seed": request.seed,
        "settings": dict(request.settings),
        "dtype_compute": request.dtype_compute,
    }
