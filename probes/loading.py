"""From stores to a FeatureSet: which clips of a manifest's split can be used, and their frames in memory."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from torch import Tensor

from avfeat.errors import LengthError, ProbeError, StoreError
from avfeat.manifest import Manifest
from avfeat.store import Feature, Group, open_store
from probes.align import Rows, join
from probes.featureset import UNKNOWN, FeatureSet
from probes.reading import Joined, frames_bytes, read_to_disk, read_to_memory

_COLUMNS = ("speaker", "method", "segments", "audio_segments", "video_segments")


@dataclass(frozen=True)
class Choice:
    """The clips of one split of one manifest; split None means all clips.

    manifest: its key or name in the store, or the path of its file.
    """

    manifest: str
    split: str | None = None

    @classmethod
    def parse(cls, text: str) -> Choice:
        """Read ``MANIFEST`` or ``MANIFEST:SPLIT``."""
        manifest, colon, split = text.rpartition(":")
        return cls(manifest, split) if colon and manifest and split else cls(text)

    def __str__(self) -> str:
        return self.manifest if self.split is None else f"{self.manifest}:{self.split}"


@dataclass(frozen=True)
class ClipCount:
    """How many clips of a choice are used, and why the others are not.

    left_out: reason → clips; a failure's reason is its class, e.g. NoFace.
    examples: reason → the first such clip and its sentence.
    truncated: used clips whose files ended before their time.
    """

    listed: int
    used: int
    truncated: int
    left_out: Mapping[str, int]
    examples: Mapping[str, str]

    def __str__(self) -> str:
        text = f"{self.used} of {self.listed} clips used"
        if self.truncated:
            text += f", {self.truncated} of them cut short"
        reasons = [f"{count} {reason} (e.g. {self.examples[reason]})" for reason, count in self.left_out.items()]
        return text + (f"; left out: {', '.join(reasons)}" if reasons else "")


@dataclass(frozen=True)
class Loaded:
    """Frames of a choice with what belongs to its clips.

    rows: the manifest's columns by name for the clips of ``data``: speaker, method, and the three of segments.
    times: seconds of the first row, and from row to row.
    starts: float64 [clips], seconds of the first row of each clip, which a clip's own facts or the join may move.
    """

    choice: Choice
    key: str
    digest: str
    data: FeatureSet
    count: ClipCount
    rows: Mapping[str, list[Any]]
    times: tuple[float, float]
    starts: NDArray[np.float64]


class Source:
    """Features of one or several stores, read together.

    Args:
        stores: their folders.
        features: what to read of each clip, side by side.
        memory: bytes that all frames may take, as a number or like ``1GB``: once the sets that were loaded and are
            still in use would take more than half of it, a further one stays on disk (see on_disk.py). None: no limit.

    Raises:
        ProbeError: no feature is named, or one twice; the memory is no size.
        StoreError: a folder is no store.
    """

    def __init__(self, stores: Sequence[Path], features: Sequence[str], memory: int | str | None = None):
        self.memory = None if memory is None else _size(memory)
        self._held: list[weakref.ref[Tensor]] = []
        self.features = tuple(features)
        if not self.features or len(set(self.features)) < len(self.features):
            raise ProbeError(f"Name one or several different features; these are {', '.join(features) or 'none'}.")
        self._stores = [open_store(path) for path in stores]

    def manifest(self, name: str) -> Manifest:
        """Return a manifest by its key or name in the stores, or by the path of its file.

        Raises:
            StoreError: none of the stores has it; the message lists those that they have.
            ManifestError: the file is no manifest.
        """
        if name.endswith(".parquet") or Path(name).is_file():
            return Manifest.read(Path(name))
        return self._groups(name)[0].manifest()

    def attributes(self, name: str) -> dict[str, Mapping[str, Any]]:
        """Return what the store says about how each feature was made."""
        manifest = self.manifest(name)
        return {feature: self.feature(manifest, feature).attributes for feature in self.features}

    def load(self, choice: Choice, *, labelled: bool = True, only: Sequence[str] | None = None) -> Loaded:
        """Read the usable clips of a choice; ``labelled`` leaves out those of unknown label.

        Args:
            choice: the split.
            labelled: whether clips of unknown label are left out.
            only: read no other clips than these.

        Raises:
            ManifestError: there is no such split; the message lists those there are with their numbers of clips.
            StoreError: there is no such manifest or feature; the message lists those there are.
            ProbeError: no clip is left; the message says why each was left out.
        """
        manifest = self.manifest(choice.manifest)
        table = manifest.select(choice.split).table
        if only is not None:
            table = table.filter(pc.is_in(table["clip_id"], value_set=pa.array(only, pa.string())))
        clip_ids, labels = table["clip_id"].to_pylist(), table["label"].to_pylist()
        streams = [_Stream(self.feature(manifest, name)) for name in self.features]
        left_out: Counter[str] = Counter()
        examples: dict[str, str] = {}
        used, joined, truncated = [], [], 0
        for row, (clip_id, label) in enumerate(zip(clip_ids, labels, strict=True)):
            reason, sentence = ("without label", "") if labelled and label is None else _fault(streams, clip_id)
            if not reason:
                try:
                    joined.append(join([stream.rows(clip_id) for stream in streams]))
                except LengthError as error:
                    reason, sentence = error.kind, str(error)
            if reason:
                left_out[reason] += 1
                examples.setdefault(reason, f"{clip_id}: {sentence}" if sentence else clip_id)
            else:
                used.append(row)
                truncated += any(stream.truncated(clip_id) for stream in streams)
        count = ClipCount(len(clip_ids), len(used), truncated, dict(left_out), examples)
        if not used:
            raise ProbeError(f"{choice}: no clip is left to work on: {count}.")
        chosen = [clip_ids[row] for row in used]
        features = [stream.feature for stream in streams]
        known = [UNKNOWN if labels[row] is None else labels[row] for row in used]
        data = self._read(features, chosen, joined, known)
        lead = max(range(len(streams)), key=lambda k: streams[k].feature.rate_hz)
        leader = streams[lead].feature
        rows = {name: table[name].take(used).to_pylist() for name in _COLUMNS}
        times = (leader.first_seconds, 1 / leader.rate_hz)
        firsts = [streams[lead].rows(clip_id).first_seconds for clip_id in chosen]
        starts = np.array([at + own[lead][0] * times[1] for at, own in zip(firsts, joined, strict=True)])
        return Loaded(choice, manifest.key, manifest.digest, data, count, rows, times, starts)

    def _read(
        self, features: Sequence[Feature], clip_ids: Sequence[str], joined: Joined, labels: Sequence[int]
    ) -> FeatureSet:
        """Read the clips' rows to where there is room for them."""
        widths = [feature.width for feature in features]
        held = sum(frames.nbytes for frames in (each() for each in self._held) if frames is not None)
        if self.memory is not None and held + frames_bytes(features, joined) > self.memory // 2:
            file, offsets = read_to_disk(features, clip_ids, joined, self.memory)
            return FeatureSet.from_frames(file.frames, offsets, labels, clip_ids, self.features, widths, file)
        frames, offsets = read_to_memory(features, clip_ids, joined)
        data = FeatureSet.from_frames(frames, offsets, labels, clip_ids, self.features, widths)
        self._held.append(weakref.ref(data.frames))
        return data

    def _groups(self, key: str) -> list[Group]:
        known = sorted({each for store in self._stores for each in store})
        groups = [store[key] for store in self._stores if any(key in (each, each.rpartition("-")[0]) for each in store)]
        if not groups:
            raise StoreError(f"The store has no manifest {key!r}; it has {', '.join(known) or 'none yet'}.")
        return groups

    def _groups_for(self, manifest: Manifest) -> list[Group]:
        """Return the groups of this very manifest, or else those of its name that hold all its clips at their paths.

        New labels or splits give a manifest another key; the clips, and so their features, are still the same.
        """
        same = [store[manifest.key] for store in self._stores if manifest.key in store]
        if same:
            return same
        wanted = _places(manifest)
        named = [store[key] for store in self._stores for key in store if key.rpartition("-")[0] == manifest.info.name]
        fitting = [group for group in named if wanted <= _places(group.manifest())]
        if not fitting:
            known = ", ".join(sorted({key for store in self._stores for key in store})) or "none yet"
            raise StoreError(
                f"The store has no features of {manifest.key}, nor of another {manifest.info.name} with all its clips; "
                f"it has {known}."
            )
        return fitting

    def feature(self, manifest: Manifest, name: str) -> Feature:
        """Return one of the features as stored for a manifest's clips.

        Raises:
            StoreError: it is in none of the stores, or in several; the message lists those there are.
        """
        groups = self._groups_for(manifest)
        having = [group for group in groups if name in group.features()]
        if not having:
            known = ", ".join(sorted({each for group in groups for each in group.features()})) or "none yet"
            raise StoreError(f"{manifest.key} has no feature {name!r}; it has {known}.")
        if len(having) > 1:
            where = ", ".join(str(group.path) for group in having)
            raise StoreError(f"{name!r} of {manifest.key} is in several places ({where}): name one of the stores only.")
        return having[0][name]


def _size(memory: int | str) -> int:
    """Read ``1GB``, ``500MB``, ``2GiB``, or a number of bytes."""
    from dask.utils import parse_bytes

    try:
        size = int(parse_bytes(memory))
    except ValueError:
        size = 0
    if size <= 0:
        raise ProbeError(f"Memory {memory!r} is no size; write one like 1GB, 500MB or 2GiB.")
    return size


def _places(manifest: Manifest) -> set[tuple[str, str]]:
    table = manifest.table
    return set(zip(table["clip_id"].to_pylist(), table["path"].to_pylist(), strict=True))


class _Stream:
    """One feature with its index at hand."""

    def __init__(self, feature: Feature):
        self.feature = feature
        index = feature.index()
        self.position = {clip_id: row for row, clip_id in enumerate(index["clip_id"].to_pylist())}
        self.columns = {
            name: index[name].to_pylist() for name in ("status", "error", "detail", "length", "first_seconds")
        }

    def fact(self, name: str, clip_id: str) -> Any:
        return self.columns[name][self.position[clip_id]]

    def truncated(self, clip_id: str) -> bool:
        return bool(self.fact("status", clip_id) == "truncated")

    def rows(self, clip_id: str) -> Rows:
        first = self.fact("first_seconds", clip_id)
        start = self.feature.first_seconds if first is None else first
        return Rows(self.feature.name, self.fact("length", clip_id), self.feature.rate_hz, start)


def _fault(streams: Sequence[_Stream], clip_id: str) -> tuple[str, str]:
    """Return why a clip cannot be used and a sentence about it; both empty when it can."""
    for stream in streams:
        if clip_id not in stream.position:
            return "not extracted", stream.feature.name
        if stream.fact("status", clip_id) == "failed":
            return str(stream.fact("error", clip_id)), str(stream.fact("detail", clip_id))
        if stream.fact("length", clip_id) == 0:
            return "without frames", stream.feature.name
    return "", ""
