"""A listing in, a manifest out: every file is probed, in parallel, for its media facts."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from avfeat.datasets.base import Listing
from avfeat.errors import ManifestError, UnreadableError
from avfeat.manifest import MEDIA_FACTS, DatasetInfo, Manifest, Row

if TYPE_CHECKING:
    from avfeat.clip import Media

Advance = Callable[[int, int], None]
"""Called with how many more files were done and how many more failed."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class Built:
    """A manifest and what was odd: clips without a file, and for unreadable files one sentence each, by clip_id."""

    manifest: Manifest
    missing: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


def build(
    listing: Listing,
    info: DatasetInfo,
    *,
    probe_media: bool = True,
    workers: int | None = None,
    advance: Advance | None = None,
) -> Built:
    """Make the manifest of a listing; paths are below ``info.root``.

    What a probe finds replaces the media facts that the listing gave. A file that is missing or cannot be probed stays
    in the manifest with null media facts, ``has_video`` and ``has_audio`` among them.

    Args:
        listing: what a reader in ``avfeat.datasets`` gave.
        info: the dataset; its root is the folder that holds the media.
        probe_media: False leaves the media alone and keeps the listing's own facts.
        workers: threads that probe; None chooses by the processors that this process may use.
        advance: is told of every file that was probed.

    Raises:
        ManifestError: a rule of manifests is broken, or not one of the files is there.
    """
    as_listed = Manifest.from_rows(listing.rows, info)
    if not probe_media:
        return Built(as_listed)
    rows = list(as_listed.rows())
    paths = [Path(info.root) / row.path for row in rows]
    built: list[Row] = []
    missing: list[str] = []
    unreadable: dict[str, str] = {}
    for row, found in zip(rows, probe_each(paths, workers, advance), strict=True):
        if found is None:
            missing.append(row.clip_id)
        elif isinstance(found, UnreadableError):
            unreadable[row.clip_id] = str(found)
        built.append(_with_facts(row, found))
    if len(missing) == len(rows):
        raise ManifestError(f"not one of the {len(rows)} files is there, e.g. {paths[0]}: is the root right?")
    return Built(Manifest.from_rows(built, info), missing, unreadable)


def probe_each(
    paths: Sequence[Path], workers: int | None = None, advance: Advance | None = None
) -> Iterator[Media | UnreadableError | None]:
    """Yield for each path, in order, its media facts, or why it cannot be read, or None where no file is."""
    from avfeat.clip import probe

    def look(path: Path) -> Media | UnreadableError | None:
        if not path.is_file():
            return None
        try:
            return probe(path)
        except UnreadableError as error:
            return error

    for found in in_threads(look, paths, workers):
        if advance is not None:
            failed = found is None or isinstance(found, UnreadableError)
            advance(int(not failed), int(failed))
        yield found


def in_threads(work: Callable[[_In], _Out], items: Sequence[_In], workers: int | None = None) -> Iterator[_Out]:
    """Yield ``work(item)`` for all items, in order; never more than a few hundred wait at a time.

    Files are mostly waited for, not computed on, so the default is four threads for each usable processor, at most 32.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = workers or min(4 * processors, 32)
    batch = 16 * workers
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(items), batch):
            yield from pool.map(work, items[start : start + batch])


def _with_facts(row: Row, found: Media | UnreadableError | None) -> Row:
    unknown = found is None or isinstance(found, UnreadableError)
    facts: dict[str, Any] = {name: None if unknown else _possible(getattr(found, name)) for name in MEDIA_FACTS}
    return replace(row, **facts)


def _possible(fact: float | None) -> float | None:
    """Return None for a number that only a damaged header can claim: negative, infinite or NaN."""
    return fact if fact is not None and 0 <= fact < math.inf else None
