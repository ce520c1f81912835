"""Is a manifest true, of its files and in itself? Findings that make numbers wrong are errors, others warnings."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from avfeat.datasets.folder import walk
from avfeat.errors import UnreadableError
from avfeat.manifest import Manifest
from avfeat.manifest_build import Advance, in_threads, probe_each
from avfeat.manifest_rules import SEGMENTS, flat_segments
from avfeat.timeline import RATE_HZ

if TYPE_CHECKING:
    from avfeat.clip import Media

_FRAME_SECONDS = 1 / RATE_HZ


@dataclass(frozen=True)
class Finding:
    """One thing that is odd: how bad, what, and the names of all clips, files or speakers it is true of."""

    level: Literal["error", "warning"]
    kind: str
    names: list[str]


@dataclass(frozen=True)
class Report:
    """``counts`` of clips and files, in the order to be read, and the findings that are not empty, errors first."""

    counts: Mapping[str, int]
    findings: list[Finding]

    @property
    def has_errors(self) -> bool:
        """Whether any finding is an error."""
        return any(finding.level == "error" for finding in self.findings)


def check(
    manifest: Manifest,
    root: Path | None = None,
    *,
    workers: int | None = None,
    advance: Advance | None = None,
) -> Report:
    """Check a manifest and, when ``root`` is given, every file of it.

    Errors: files that are missing, unreadable, or no longer what the manifest says (streams, size of the picture, or a
    duration that differs by more than a frame of 40 ms); one content under several clips that lie in different splits
    or have different labels; speakers in more than one split. Warnings: files below the root that are not listed; other
    copies; clips without sound, without pictures, or never probed; segments that end more than a frame after their
    clip; a label that contradicts the labels or segments of its streams.

    Args:
        manifest: what is checked.
        root: the folder that holds the media; None checks the table alone.
        workers: threads that probe and read files.
        advance: is told of every file that was probed.

    Raises:
        ManifestError: a folder below ``root`` cannot be listed.
    """
    counts = {"clips listed": len(manifest)}
    findings: list[Finding] = []
    if root is not None:
        counts |= _check_files(manifest, root, workers, advance, findings)
    findings += _check_table(manifest.table)
    found = [finding for finding in findings if finding.names]
    return Report(counts, sorted(found, key=lambda finding: finding.level))


def _check_table(table: pa.Table) -> list[Finding]:
    ids = table["clip_id"]

    def where(condition: pa.ChunkedArray) -> list[str]:
        names: list[str] = ids.filter(condition).to_pylist()
        return names

    unknown = pc.and_(pc.is_null(table["has_video"]), pc.is_null(table["has_audio"]))
    return [
        Finding("error", "speakers in several splits", _speakers_across_splits(table)),
        Finding("warning", "clips without sound", where(pc.invert(table["has_audio"]))),
        Finding("warning", "clips without pictures", where(pc.invert(table["has_video"]))),
        Finding("warning", "clips without media facts", where(unknown)),
        Finding("warning", "segments after the end of the clip", list(segments_outside(table))),
        Finding("warning", "contradicting labels", where(_contradictions(table))),
    ]


def _speakers_across_splits(table: pa.Table) -> list[str]:
    known = table.select(["speaker", "split"]).drop_null()
    splits = known.group_by("speaker").aggregate([("split", "count_distinct")])
    names: list[str] = splits.filter(pc.greater(splits["split_count_distinct"], 1))["speaker"].to_pylist()
    return sorted(names)


def segments_outside(table: pa.Table) -> dict[str, float]:
    """Return the clips, sorted, with a segment that ends more than a frame after their known duration.

    The value is how many seconds after it the last of their segments ends.
    """
    latest: dict[str, float] = {}
    for column in SEGMENTS:
        _, ends, owners = flat_segments(table, column)
        over = pc.subtract(ends, pc.take(table["duration_seconds"].combine_chunks(), owners))
        late = pc.greater(over, _FRAME_SECONDS)
        names = table["clip_id"].take(pc.cast(owners.filter(late), pa.int64())).to_pylist()
        for name, seconds in zip(names, over.filter(late).to_pylist(), strict=True):
            latest[name] = max(seconds, latest.get(name, 0.0))
    return dict(sorted(latest.items()))


def _contradictions(table: pa.Table) -> pa.ChunkedArray:
    """Tell for each clip whether it is called real with a fake stream or segment, or fake with two real streams."""
    fake_part = pc.fill_null(
        pc.or_kleene(*(pc.equal(table[name], 1) for name in ("audio_label", "video_label"))), False
    )
    for name in SEGMENTS:
        fake_part = pc.or_(fake_part, pc.fill_null(pc.greater(pc.list_value_length(table[name]), 0), False))
    real_parts = pc.and_kleene(*(pc.equal(table[name], 0) for name in ("audio_label", "video_label")))
    return pc.or_kleene(
        pc.and_kleene(pc.equal(table["label"], 0), fake_part), pc.and_kleene(pc.equal(table["label"], 1), real_parts)
    )


def _check_files(
    manifest: Manifest, root: Path, workers: int | None, advance: Advance | None, findings: list[Finding]
) -> dict[str, int]:
    """Append what is odd about the files to ``findings`` and return the counts."""
    listed: list[str] = manifest.table["path"].to_pylist()
    missing: list[str] = []
    unreadable: list[str] = []
    changed: list[str] = []
    readable: list[dict[str, Any]] = []
    for row, found in zip(
        _facts(manifest), probe_each([root / path for path in listed], workers, advance), strict=True
    ):
        if found is None:
            missing.append(row["clip_id"])
        elif isinstance(found, UnreadableError):
            unreadable.append(row["clip_id"])
        else:
            readable.append(row)
            if _differs(row, found):
                changed.append(row["clip_id"])
    extra = sorted(set(walk(root)) - set(listed))
    harmful, harmless = _copies(readable, root, workers)
    findings += [
        Finding("error", "files missing", missing),
        Finding("error", "files unreadable", unreadable),
        Finding("error", "files changed since the build", changed),
        Finding("error", "copies across splits or labels", harmful),
        Finding("warning", "copies", harmless),
        Finding("warning", "files not listed", extra),
    ]
    return {
        "files found": len(listed) - len(missing),
        "files readable": len(readable),
        "files missing": len(missing),
        "files unreadable": len(unreadable),
        "files not listed": len(extra),
    }


def _facts(manifest: Manifest) -> Iterable[dict[str, Any]]:
    wanted = ["clip_id", "path", "split", "label", "duration_seconds", "width", "height", "has_video", "has_audio"]
    for batch in manifest.table.select(wanted).to_batches(max_chunksize=4096):
        yield from batch.to_pylist()


def _differs(row: dict[str, Any], found: Media) -> bool:
    for name in ("width", "height", "has_video", "has_audio"):
        if row[name] is not None and row[name] != getattr(found, name):
            return True
    before, now = row["duration_seconds"], found.duration_seconds
    return before is not None and now is not None and abs(before - now) > _FRAME_SECONDS


def _copies(rows: list[dict[str, Any]], root: Path, workers: int | None) -> tuple[list[str], list[str]]:
    """Return the clips that share their bytes with another: those with other splits or labels, and the rest."""
    harmful: list[str] = []
    harmless: list[str] = []
    for group in identical_files(rows, root, workers):
        agree = len({(row["split"], row["label"]) for row in group}) == 1
        (harmless if agree else harmful).extend(row["clip_id"] for row in group)
    return sorted(harmful), sorted(harmless)


def identical_files(rows: list[dict[str, Any]], root: Path, workers: int | None = None) -> list[list[dict[str, Any]]]:
    """Return the groups of rows whose files, ``path`` below ``root``, have the same bytes."""
    by_size = defaultdict(list)
    for row in rows:
        by_size[(root / row["path"]).stat().st_size].append(row)
    suspects = [row for group in by_size.values() if len(group) > 1 for row in group]
    by_content = defaultdict(list)
    for row, content in zip(
        suspects, in_threads(lambda row: _sha256(root / row["path"]), suspects, workers), strict=True
    ):
        by_content[content].append(row)
    return [group for group in by_content.values() if len(group) > 1]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
