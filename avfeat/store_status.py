"""How far is the store? One row for each feature, from the indexes alone, so from any machine and in seconds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from avfeat.store import Feature, open_store
from avfeat.store_layout import DONE, FAILED, TRUNCATED


@dataclass(frozen=True)
class FeatureStatus:
    """The clips of one manifest for one feature; done + truncated + failed + missing = clips.

    truncated: clips with rows whose file ended early. failed: clips without rows, by reason in ``errors``.
    missing: clips that no committed part holds. frames, size_bytes: rows that stand and their bytes, uncompressed.
    parts, parts_committed: how much of the plan is there.
    """

    manifest: str
    feature: str
    clips: int
    done: int
    truncated: int
    failed: int
    missing: int
    frames: int
    size_bytes: int
    parts: int
    parts_committed: int
    errors: dict[str, int]

    def cells(self) -> tuple[object, ...]:
        """Return what a table shows of it: names, clips by outcome, rows, megabytes."""
        counts = (self.clips, self.done, self.truncated, self.failed, self.missing, self.frames)
        return self.manifest, self.feature, *counts, round(self.size_bytes / 1e6)


@dataclass(frozen=True)
class Reason:
    """Why one clip has no rows for a feature, or fewer than its file announces, or what was odd about it."""

    manifest: str
    feature: str
    clip_id: str
    status: str
    error: str | None
    detail: str | None

    def cells(self) -> tuple[object, ...]:
        """Return what a table shows of it."""
        return self.manifest, self.feature, self.clip_id, self.status, self.error or "", self.detail or ""


def reasons(path: Path | str) -> list[Reason]:
    """Return one row for each clip and feature that is not simply done, sorted by manifest, feature and clip.

    Raises:
        StoreError: there is no such store, or an index is damaged.
    """
    store = open_store(path)
    found = []
    for key in store:
        for name in store[key]:
            index = store[key][name].index().select(["clip_id", "status", "error", "detail"])
            odd = index.filter(pc.or_(pc.not_equal(index["status"], DONE), pc.is_valid(index["detail"])))
            found += [Reason(key, name, *row.values()) for row in odd.to_pylist()]
    return found


def status(path: Path | str, manifest: str | None = None, feature: str | None = None) -> list[FeatureStatus]:
    """Return how far each feature is, sorted by manifest and feature.

    Args:
        path: the store.
        manifest: only this one, by key or unique name.
        feature: only this one.

    Raises:
        StoreError: there is no such store, manifest or feature, or an index is damaged.
    """
    store = open_store(path)
    rows = []
    for key in [manifest] if manifest is not None else store.keys():
        group = store[key]
        for name in [feature] if feature is not None else group.features():
            rows.append(_feature_status(group[name]))
    return rows


def _feature_status(feature: Feature) -> FeatureStatus:
    index = feature.index()
    count = Counter(index["status"].to_pylist())
    frames = int(pc.sum(index["length"]).as_py() or 0)
    clips = int(feature.group.attributes["clips"])
    return FeatureStatus(
        manifest=feature.group.key,
        feature=feature.name,
        clips=clips,
        done=count[DONE],
        truncated=count[TRUNCATED],
        failed=count[FAILED],
        missing=clips - len(index),
        frames=frames,
        size_bytes=frames * feature.form.row_bytes,
        parts=-(-clips // feature.part_clips),
        parts_committed=sum(0 in attempts for attempts in feature.committed().values()),
        errors=dict(sorted(Counter(index["error"].drop_null().to_pylist()).items())),
    )
