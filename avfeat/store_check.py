"""Is the store whole and true? Every part is held against its own checksums, its feature and its manifest."""

from __future__ import annotations

import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import google_crc32c
import pyarrow as pa

from avfeat.errors import ManifestError, StoreError
from avfeat.manifest import Manifest
from avfeat.plan import Part, cut
from avfeat.store_disk import leftovers, remove, sweep
from avfeat.store_frames import Frames, read_frames_file
from avfeat.store_index import read_part_index, stamp
from avfeat.store_layout import (
    DONE,
    FAILED,
    FRAMES,
    INDEX_FILE,
    MANIFEST_FILE,
    TRUNCATED,
    Form,
    committed_parts,
    first_not_finite,
    parse_part,
    part_name,
    read_group,
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. ``place`` is relative to the store; ``dropped`` says that repair removed it."""

    place: str
    problem: str
    dropped: bool = False


@dataclass
class Report:
    """What a check found.

    findings: what is wrong.
    leftovers: private files of unfinished or killed writers, relative to the store: no error, no reader sees them.
    swept: those of them that repair removed, nobody having written to them for a day.
    """

    store: str
    deep: bool
    features: int = 0
    parts: int = 0
    clips: int = 0
    rows: int = 0
    findings: list[Finding] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    swept: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong, or nothing any more."""
        return all(finding.dropped for finding in self.findings)

    def lines(self) -> list[str]:
        """Return what a person wants to read, one sentence a line."""
        depth = "every byte of the frames" if self.deep else "all but the frames themselves"
        held = f"{_count(self.features, 'feature')}, {_count(self.parts, 'part')} with {_count(self.clips, 'clip')}"
        lines = [f"{self.store}: {held}; read {depth}."]
        for finding in self.findings:
            dropped = " Dropped: the next extract does it again." if finding.dropped else ""
            lines.append(f"{finding.place}: {finding.problem}{dropped}")
        if self.swept:
            lines.append(f"removed {_count(len(self.swept), 'leftover')} of killed writers, older than a day.")
        if self.leftovers:
            lines.append(f"{_count(len(self.leftovers), 'private folder')} of writers at work or killed: no error.")
        wrong = sum(not finding.dropped for finding in self.findings)
        lines.append(
            "all is well." if self.ok else f"{_count(wrong, 'problem')}; drop damaged parts with avfeat check --repair."
        )
        return lines

    def to_json(self) -> str:
        """Return the whole report as one JSON object."""
        return json.dumps(asdict(self) | {"ok": self.ok})


def check_store(path: Path | str, deep: bool = True, repair: bool = False, workers: int | None = None) -> Report:
    """Check a store.

    For each part: its attributes; the checksum and columns of its index; that its clips are those of the manifest (all
    of them in attempt 0) and lie end to end; that the array has their rows in the feature's form; that every shard is
    there in full with a sound index. ``deep`` also reads the frames: the crc32c of each clip, and finite numbers.

    Args:
        path: the store.
        deep: read the frames too; else only some kilobytes for each part.
        repair: remove damaged parts, so that the next extract does them again, and leftovers older than a day.
        workers: how many parts are checked at once, by default one for each CPU.

    Raises:
        StoreError: there is no store, or a damaged part cannot be removed.
    """
    path = Path(path)
    read_group(path, "store")
    report = Report(str(path), deep)
    _private(path, path, repair, report)
    for group in _folders(path):
        _private(group, path, repair, report)
        try:
            parts = _manifest_parts(group)
        except (StoreError, ManifestError) as error:
            report.findings.append(Finding(group.name, str(error)))
            continue
        for feature in _folders(group):
            _private(feature, path, repair, report)
            _check_feature(feature, parts, report, repair, workers or os.cpu_count() or 1)
    return report


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _folders(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))


def _private(folder: Path, store: Path, repair: bool, report: Report) -> None:
    if repair:
        report.swept += [str(each.relative_to(store)) for each in sweep(folder)]
    report.leftovers += [str(each.relative_to(store)) for each in leftovers(folder)]


def _manifest_parts(group: Path) -> list[Part]:
    facts = read_group(group, "manifest")
    manifest = Manifest.read(group / MANIFEST_FILE)
    if manifest.digest != facts["digest"] or manifest.key != group.name:
        raise StoreError(f"{MANIFEST_FILE} is not the manifest that this group was made for (its key: {manifest.key}).")
    return cut(manifest.clip_ids, facts["part_clips"])


def _check_feature(folder: Path, parts: list[Part], report: Report, repair: bool, workers: int) -> None:
    place = f"{folder.parent.name}/{folder.name}"
    try:
        form = Form.read(read_group(folder, "feature"))
    except StoreError as error:
        report.findings.append(Finding(place, str(error)))
        return
    report.features += 1
    for stranger in sorted(each.name for each in _folders(folder) if parse_part(each.name) is None):
        report.findings.append(Finding(f"{place}/{stranger}", "is not a part; move it out of the store."))
    names = committed_parts(folder)

    def check(each: tuple[int, int]) -> tuple[str, int, int, str]:
        name = part_name(*each)
        try:
            clips, rows = _check_part(folder / name, form, parts, *each, report.deep)
            return name, clips, rows, ""
        except (StoreError, OSError) as error:
            return name, 0, 0, str(error)

    with ThreadPoolExecutor(workers) as pool:
        for name, clips, rows, problem in pool.map(check, names):
            report.parts += 1
            report.clips += clips
            report.rows += rows
            if problem:
                if repair:
                    remove(folder / name)
                report.findings.append(Finding(f"{place}/{name}", problem, repair))


def _check_part(folder: Path, form: Form, parts: list[Part], part: int, attempt: int, deep: bool) -> tuple[int, int]:
    """Return how many clips and rows a part holds.

    Raises:
        StoreError: something is wrong with it.
    """
    facts = read_group(folder, "part")
    if (facts.get("part"), facts.get("attempt")) != (part, attempt):
        raise StoreError(f"says that it is {part_name(facts.get('part', 0), facts.get('attempt', 0))}.")
    try:
        content = (folder / INDEX_FILE).read_bytes()
    except OSError as error:
        raise StoreError(f"{INDEX_FILE} cannot be read: {error.strerror}.") from error
    if google_crc32c.value(content) != facts.get("index_crc32c"):
        raise StoreError(f"{INDEX_FILE} does not match its checksum.")
    index = read_part_index(folder)
    rows = _check_index(index, part, attempt, parts)
    file = read_frames_file(folder)
    if file.form != form:
        raise StoreError(f"its frames lie as {file.form}, the feature's as {form}.")
    if not file.rows == rows == facts.get("rows"):
        raise StoreError(f"its array has {file.rows} rows, its clips {rows}, its attributes say {facts.get('rows')}.")
    frames = Frames([folder], [stamp(folder)])
    for number, (name, start, end) in enumerate(form.shards(rows)):
        size = (folder / FRAMES / name).stat().st_size if (folder / FRAMES / name).exists() else 0
        if form.codec == "none" and size != form.shard_bytes(end - start):
            raise StoreError(f"{FRAMES}/{name} has {size} bytes, not {form.shard_bytes(end - start)}.")
        frames.shard(0, number)
    if deep:
        _check_frames(frames, index)
    return len(index), rows


def _check_index(index: pa.Table, part: int, attempt: int, parts: list[Part]) -> int:
    if part >= len(parts):
        raise StoreError(f"the manifest has only {len(parts)} parts.")
    ids = index["clip_id"].to_pylist()
    twice = [clip_id for clip_id, count in Counter(ids).items() if count > 1]
    if twice:
        raise StoreError(f"clip {twice[0]} is in its index twice.")
    ours = set(parts[part].clip_ids)
    strange = sorted(set(ids) - ours)
    missing = sorted(ours - set(ids)) if attempt == 0 else []
    if strange or missing or not ids:
        raise StoreError(
            f"its index lacks {len(missing)} clips of the manifest and holds {len(strange)} of other parts "
            f"({', '.join((missing + strange)[:5]) or 'it holds none at all'})."
        )
    row = 0
    for clip_id, start, length, status, error in zip(
        ids, *(index[name].to_pylist() for name in ("start", "length", "status", "error")), strict=True
    ):
        failed = status == FAILED
        if start != row or length < 0 or status not in (DONE, TRUNCATED, FAILED):
            raise StoreError(f"the index row of {clip_id} is impossible: start {start}, length {length}, {status}.")
        if failed != (error is not None) or (failed and length):
            raise StoreError(f"the index row of {clip_id} contradicts itself: {status}, {length} rows, error {error}.")
        row += length
    return row


def _check_frames(frames: Frames, index: pa.Table) -> None:
    for clip_id, start, length, crc32c in zip(
        *(index[name].to_pylist() for name in ("clip_id", "start", "length", "crc32c")), strict=True
    ):
        rows = frames.view(0, start, length)
        if google_crc32c.value(rows) != crc32c:
            raise StoreError(f"the frames of clip {clip_id} do not match their checksum.")
        if first_not_finite(rows) is not None:
            raise StoreError(f"the frames of clip {clip_id} are not all finite.")
