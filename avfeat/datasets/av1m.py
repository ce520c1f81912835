"""AV-Deepfake1M, and its ++ edition: clips whose sound, pictures or both are forged for some tenths of a second."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from sys import intern
from typing import Any

from avfeat.datasets.base import Disk, Listing, id_of_path, metadata_file, settle
from avfeat.datasets.json_list import field_of, read_objects
from avfeat.errors import ManifestError
from avfeat.manifest import DatasetInfo, Row, Segment
from avfeat.manifest_rules import name_five

ABOUT = DatasetInfo(
    "av1m",
    source="https://github.com/ControlNet/AV-Deepfake1M",
    licence="CC BY-NC 4.0, and the EULA of its authors",
)

LIST = "_metadata.json"
HIDDEN = "_files.txt"

STREAMS = {"real": (0, 0), "audio_modified": (1, 0), "visual_modified": (0, 1), "both_modified": (1, 1)}
"""modify_type to (audio_label, video_label)."""

_RATE_HZ = 25.0


def read(root: Path, *, look: bool = True) -> Listing:
    """List the clips of each ``<split>_metadata.json`` and of each ``<split>_files.txt``, whose labels are hidden.

    Splits are the official ones, by the names of those files. ``modify_type`` alone decides which stream is fake; the
    segments of an unmodified stream are empty whatever the lists say. Clips of ``_files.txt`` have null labels and
    segments. ``original`` is set where the clip was made from another clip of the release. A split unpacked to a
    doubled folder (``val/val``) is found. Without a probe, durations are the listed pictures at 25 Hz.

    Args:
        root: the folder that holds the metadata and the folders of the splits.
        look: False lists every clip, whether its file is there or not.

    Raises:
        ManifestError: the metadata are missing or not as expected, or no clip is there.
    """
    lists, hidden = sorted(root.glob(f"*{LIST}")), sorted(root.glob(f"*{HIDDEN}"))
    if not lists and not hidden:
        metadata_file(root, f"train{LIST}", f"val{LIST}", f"test{HIDDEN}")
    rows = [row for path in lists for row in _labelled(path)]
    rows += [row for path in hidden for row in _hidden(path)]
    splits = {path.name.removesuffix(LIST).removesuffix(HIDDEN) for path in [*lists, *hidden]}
    unread = sorted(
        folder.name
        for folder in root.iterdir()
        if folder.is_dir() and not folder.name.endswith("_metadata") and folder.name not in splits
    )
    notes = [f"folders without metadata were left out: {name_five(unread)}"] if unread else []
    unknown = sum(row.label is None for row in rows)
    if unknown:
        notes.append(f"{unknown} clips have hidden labels: null")
    return settle(rows, notes, Disk.below(root) if look else None, _find)


def _labelled(path: Path) -> list[Row]:
    split = intern(path.name.removesuffix(LIST))
    rows = [_row(path, split, entry) for entry in read_objects(path)]
    ids = {row.clip_id for row in rows}
    # A real clip names its source in VoxCeleb2, which is no clip of this release.
    return [replace(row, original=None) if row.label == 0 and row.original not in ids else row for row in rows]


def _row(path: Path, split: str, entry: dict[str, Any]) -> Row:
    file = f"{split}/{field_of(path, entry, 'file')}"
    # Their own reader compares with a hyphen where the lists have an underscore.
    kind = str(field_of(path, entry, "modify_type")).replace("-", "_")
    if kind not in STREAMS:
        raise ManifestError(f"{path}: {file} has modify_type {kind!r}; known are {', '.join(STREAMS)}.")
    audio, video = STREAMS[kind]
    original, pictures = field_of(path, entry, "original"), entry.get("video_frames")
    models = [entry[name] for name in ("audio_model", "video_model") if entry.get(name)]
    whole = _segments(field_of(path, entry, "fake_segments")) if audio or video else ()
    return Row(
        clip_id=id_of_path(file),
        path=file,
        split=split,
        label=int(audio or video),
        audio_label=audio,
        video_label=video,
        segments=whole,
        audio_segments=_segments(field_of(path, entry, "audio_fake_segments"), whole) if audio else (),
        video_segments=_segments(field_of(path, entry, "visual_fake_segments"), whole) if video else (),
        method=intern("+".join([kind, *models])),
        speaker=_speaker(entry["file"]),
        original=id_of_path(f"{split}/{original}") if original else None,
        duration_seconds=None if pictures is None else pictures / _RATE_HZ,
        fps=_RATE_HZ,
        source_frames=pictures,
        has_video=True,
        has_audio=None if entry.get("audio_frames") is None else entry["audio_frames"] > 0,
    )


def _segments(pairs: list[Segment] | None, same_as: tuple[Segment, ...] | None = None) -> tuple[Segment, ...] | None:
    """Return pairs as tuples; equal ones are one object, since a release has a million of them."""
    if pairs is None:
        return None
    found = tuple((float(start), float(end)) for start, end in pairs)
    return same_as if found == same_as else found


def _speaker(file: str) -> str | None:
    """Return who speaks, by the folders: ``id00012/...``, ``vox_celeb_2/id00012/...``, ``silent_videos/subject_7_...``.

    The folders of LRS3 name videos, not people.
    """
    parts = file.split("/")
    if parts[0] == "lrs3":
        return None
    if parts[0] == "silent_videos":
        return intern("_".join(parts[1].split("_")[:2]))
    return intern(parts[1] if parts[0] == "vox_celeb_2" else parts[0])


def _hidden(path: Path) -> Iterator[Row]:
    split = intern(path.name.removesuffix(HIDDEN))
    try:
        names = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read as a list of files: {error}.") from error
    for name in filter(None, map(str.strip, names)):
        file = name if name.startswith(f"{split}/") else f"{split}/{name}"
        yield Row(id_of_path(file), file, split)


def _find(disk: Disk, path: str) -> str | None:
    return disk.find(path) or disk.find(f"{path.partition('/')[0]}/{path}")
