"""A folder tree of videos, with no metadata beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from avfeat.datasets.base import Listing, ids_of_paths
from avfeat.errors import ManifestError
from avfeat.manifest import Row
from avfeat.manifest_rules import name_five

MEDIA_SUFFIXES = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf"}
    | {".ogv", ".ts", ".vob", ".webm", ".wmv"}
)
"""Names of video containers; sound files are not clips of their own, releases put them beside the videos."""

LABELS_OF_FOLDERS = {"real": 0, "fake": 1}


def read(root: Path, *, labels_from_folders: bool = False) -> Listing:
    """List every video below ``root``, sorted by path; labels are null, splits too.

    Linked folders are entered, unless they lead back up. Hidden videos and folders (a leading dot) are left out; the
    notes name them.

    Args:
        root: the folder.
        labels_from_folders: take the label from a parent folder below ``root`` that is named ``real`` or ``fake``, in
            any case of letters; files under neither keep a null label and are counted.

    Raises:
        ManifestError: no such folder, no videos in it, or folders that name no label, or both.
    """
    if not root.is_dir():
        raise ManifestError(f"{root} is not a folder.")
    left_out: list[str] = []
    paths = sorted(walk(root, left_out))
    if not paths:
        raise ManifestError(f"{root} holds no video: looked for {' '.join(sorted(MEDIA_SUFFIXES))}.")
    labels = _labels(root, paths) if labels_from_folders else [None] * len(paths)
    rows = [
        Row(clip_id, path, label=label) for clip_id, path, label in zip(ids_of_paths(paths), paths, labels, strict=True)
    ]
    notes = [f"{len(left_out)} hidden or circular left out: {name_five(left_out)}"] if left_out else []
    unlabelled = labels.count(None)
    if labels_from_folders and unlabelled:
        notes.append(f"{unlabelled} under no folder named real or fake: label null")
    return Listing(rows, notes)


def walk(
    root: Path, left_out: list[str] | None = None, suffixes: tuple[str, ...] = tuple(MEDIA_SUFFIXES)
) -> Iterator[str]:
    """Yield the paths of all videos below ``root``, relative, with forward slashes; or of files with other suffixes.

    ``left_out``, when given, receives what is hidden or leads back to a folder above itself.

    Raises:
        ManifestError: a folder cannot be listed.
    """
    yield from _walk(str(root), "", frozenset(), [] if left_out is None else left_out, suffixes)


def _walk(
    folder: str, below: str, above: frozenset[tuple[int, int]], left_out: list[str], suffixes: tuple[str, ...]
) -> Iterator[str]:
    """Yield what ``walk`` does of one folder, whose path from the root is ``below`` and ends with a slash."""
    # Plain strings, and one stat for a folder: a release has a million files in hundreds of thousands of folders.
    try:
        place = Path(folder).stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise ManifestError(f"{folder} cannot be listed: {error.strerror}.") from error
    here = (place.st_dev, place.st_ino)
    if here in above:
        left_out.append(below.rstrip("/"))
        return
    for entry in entries:
        is_folder = entry.is_dir()
        if not is_folder and not entry.name.lower().endswith(suffixes):
            continue
        if entry.name.startswith("."):
            left_out.append(below + entry.name)
        elif is_folder:
            yield from _walk(entry.path, f"{below}{entry.name}/", above | {here}, left_out, suffixes)
        else:
            yield below + entry.name


def _labels(root: Path, paths: list[str]) -> list[int | None]:
    found = [{LABELS_OF_FOLDERS.get(part.lower()) for part in Path(path).parts[:-1]} - {None} for path in paths]
    both = [path for path, labels in zip(paths, found, strict=True) if len(labels) > 1]
    if both:
        raise ManifestError(f"{len(both)} files lie under folders of both names, real and fake: {name_five(both)}.")
    if not any(found):
        raise ManifestError(f"no folder below {root} that holds videos is named real or fake: labels cannot be told.")
    return [next(iter(labels), None) for labels in found]
