"""What a reader of a release gives: rows, and sentences about all that is odd."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from avfeat.manifest import Row


@dataclass(frozen=True)
class Listing:
    """The clips of a release, not yet probed; ``notes`` are sentences on what was left out or could not be told."""

    rows: list[Row]
    notes: list[str] = field(default_factory=list)


def ids_of_paths(paths: Sequence[str]) -> list[str]:
    """Return one clip_id for each relative path: the path in Unicode form NFC, without its suffix.

    Where that names more than one file (``a.mp4`` beside ``a.avi``), each of them keeps its suffix.
    """
    whole = [unicodedata.normalize("NFC", path) for path in paths]
    ids = [path.removesuffix(PurePosixPath(path).suffix) for path in whole]
    while True:
        counts = Counter(ids)
        longer = [path if counts[name] > 1 else name for name, path in zip(ids, whole, strict=True)]
        if longer == ids:
            return ids
        ids = longer
