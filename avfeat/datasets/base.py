"""What a reader of a release gives: rows, sentences about all that is odd, and how much of the release is there."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from avfeat.errors import ManifestError
from avfeat.manifest import DatasetInfo, Row
from avfeat.manifest_rules import name_five

_NOT_LETTERS = re.compile(r"[\s()_]+")
_EDGES = re.compile(r"(?:^|(?<=/))_|_(?=/|$)")


@dataclass(frozen=True)
class FolderCount:
    """How many clips of one folder a release lists and how many of them are on disk.

    ``listed`` is None where the release has no list, ``found`` where nobody looked.
    """

    folder: str
    listed: int | None
    found: int | None

    @property
    def missing(self) -> int | None:
        """Listed clips without a file; None unless both are known."""
        return None if self.listed is None or self.found is None else self.listed - self.found


@dataclass(frozen=True)
class Listing:
    """The clips of a release, not yet probed.

    notes: sentences on what was left out or could not be told.
    folders: what the release's own lists name and what is there, by folder; empty where no release is read.
    """

    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    folders: list[FolderCount] = field(default_factory=list)


class Disk:
    """The videos below a folder, by their relative paths."""

    def __init__(self, paths: Iterable[str]):
        self.paths = frozenset(paths)

    @classmethod
    def below(cls, root: Path) -> Disk:
        """Look at everything below ``root``.

        Raises:
            ManifestError: a folder cannot be listed.
        """
        from avfeat.datasets.folder import walk

        return cls(walk(root))

    def find(self, path: str) -> str | None:
        """Return the path itself where such a file is."""
        return path if path in self.paths else None

    def find_spelt(self, path: str) -> str | None:
        """Return the file with this path, or with the only one that is it but for blanks, brackets, underscores."""
        if path in self.paths:
            return path
        near = self._by_letters.get(letters(path), [])
        return near[0] if len(near) == 1 else None

    @cached_property
    def _by_letters(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in self.paths:
            found.setdefault(letters(path), []).append(path)
        return found


def found_by_folder(rows: Iterable[Row]) -> list[FolderCount]:
    """Return how many clips each folder at the top has, of a release that has no list of them."""
    counts = Counter(row.path.partition("/")[0] for row in rows)
    return [FolderCount(name, None, count) for name, count in sorted(counts.items())]


def settle(
    rows: Sequence[Row],
    notes: Sequence[str],
    disk: Disk | None,
    find: Callable[[Disk, str], str | None] = Disk.find,
    folder_of: Callable[[str], str] = lambda path: path.partition("/")[0],
) -> Listing:
    """Keep the listed clips that are on disk, with their paths as on disk; ids stay those of the listed paths.

    Args:
        rows: every clip that the release lists, its path as listed.
        notes: what the reader has to say.
        disk: None keeps every row, whether its file is there or not.
        find: gives the path on disk of a listed path.
        folder_of: what listed paths are counted by.

    Raises:
        ManifestError: nothing is listed, or not one listed clip is on disk.
    """
    if not rows:
        raise ManifestError("the release's lists name not one clip.")
    listed = Counter(folder_of(row.path) for row in rows)
    if disk is None:
        return Listing(list(rows), list(notes), [FolderCount(name, count, None) for name, count in listed.items()])
    found: Counter[str] = Counter()
    kept = []
    for row in rows:
        path = find(disk, row.path)
        if path is not None:
            found[folder_of(row.path)] += 1
            kept.append(row if path == row.path else replace(row, path=path))
    if not kept:
        raise ManifestError(
            f"not one of the {len(rows)} listed clips is there, e.g. {rows[0].path}: is the root right? "
            "To list them without their files: --no-probe."
        )
    extra = sorted(disk.paths.difference(row.path for row in kept))
    unlisted = [f"{len(extra)} videos on disk that no list names were left out: {name_five(extra)}"] if extra else []
    counts = [FolderCount(name, count, found[name]) for name, count in sorted(listed.items())]
    return Listing(kept, [*notes, *unlisted], counts)


def metadata_file(root: Path, *names: str) -> Path:
    """Return the first of these files that lies in ``root``.

    Raises:
        ManifestError: none does; the message names the folder below that has one.
    """
    for name in names:
        if (root / name).is_file():
            return root / name
    near = sorted(root.glob(f"*/{names[0]}")) if root.is_dir() else []
    hint = f"give {near[0].parent}" if near else "give the folder that the release was unpacked to"
    raise ManifestError(f"{root} has no {' or '.join(names)}: {hint}.")


def release_info(about: DatasetInfo, root: Path, name: str = "") -> DatasetInfo:
    """Return the facts of a release as it lies below ``root``, by another name if one is given."""
    return replace(about, name=name or about.name, root=str(root.resolve()))


def letters(path: str) -> str:
    """Return a path whose blanks, brackets and underscores are alike: ``Asian (East)/a`` and ``Asian_East/a``."""
    return _EDGES.sub("", _NOT_LETTERS.sub("_", unicodedata.normalize("NFC", path)))


def id_of_path(path: str) -> str:
    """Return the path in Unicode form NFC without its suffix: the clip_id wherever no other file shares it."""
    return _without_suffix(unicodedata.normalize("NFC", path))


def _without_suffix(path: str) -> str:
    """Return what pathlib calls the path with an empty suffix; a release has a million paths, and pathlib is slow."""
    stem, _, suffix = path.rpartition(".")
    return path if "/" in suffix or not suffix or not stem or stem.endswith("/") else stem


def ids_of_paths(paths: Sequence[str]) -> list[str]:
    """Return one clip_id for each relative path: the path in Unicode form NFC, without its suffix.

    Where that names more than one file (``a.mp4`` beside ``a.avi``), each of them keeps its suffix.
    """
    whole = [unicodedata.normalize("NFC", path) for path in paths]
    ids = [_without_suffix(path) for path in whole]
    while True:
        counts = Counter(ids)
        longer = [path if counts[name] > 1 else name for name, path in zip(ids, whole, strict=True)]
        if longer == ids:
            return ids
        ids = longer
