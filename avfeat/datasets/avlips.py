"""AVLips v1.0 (LipFD): lip-synced fakes beside the real clips; the folder is the label."""

from __future__ import annotations

from pathlib import Path

from avfeat.datasets.base import Disk, Listing, found_by_folder, id_of_path
from avfeat.errors import ManifestError
from avfeat.manifest import DatasetInfo, Row

ABOUT = DatasetInfo(
    "avlips", "1.0", source="https://github.com/AaronComo/LipFD", licence="not stated by its authors: ask them"
)

FOLDERS = {"0_real": 0, "1_fake": 1}


def read(root: Path) -> Listing:
    """List the videos of ``0_real`` and ``1_fake``; there is no list of them, and no split.

    A fake's sound may be real or not: its audio_label is null, and so are its segments. ``original`` is the real clip
    of the same number, which is an inference, as the notes say. The WAV copies below ``wav`` are not read.

    Args:
        root: the folder that holds the two.

    Raises:
        ManifestError: the two folders are not there, or no video is in them.
    """
    if not any((root / folder).is_dir() for folder in FOLDERS):
        raise ManifestError(f"{root} has no folder {' or '.join(FOLDERS)}: give the folder AVLips.")
    disk = Disk.below(root)
    rows = [_row(path, disk) for path in sorted(disk.paths) if path.partition("/")[0] in FOLDERS]
    if not rows:
        raise ManifestError(f"{root} holds no video in {' or '.join(FOLDERS)}.")
    notes = []
    paired = sum(row.original is not None for row in rows)
    if paired:
        notes.append(f"{paired} fakes have the number of a real clip, which is inferred to be their original")
    if (root / "wav").is_dir():
        notes.append("the sound files below wav are not read: only what is in a video counts as its sound")
    return Listing(rows, notes, found_by_folder(rows))


def _row(path: str, disk: Disk) -> Row:
    folder, _, name = path.partition("/")
    label = FOLDERS[folder]
    twin = f"0_real/{name}"
    return Row(
        clip_id=id_of_path(path),
        path=path,
        label=label,
        audio_label=None if label else 0,
        video_label=label,
        segments=None if label else (),
        audio_segments=None if label else (),
        video_segments=None if label else (),
        method=None if label else "real",
        original=id_of_path(twin) if label and twin in disk.paths else None,
    )
