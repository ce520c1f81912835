"""AV-Deepfake1M, and its ++ edition: clips whose sound, pictures or both are forged for some tenths of a second."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from sys import intern
from typing import Any

from avfeat.datasets.base import Disk, Listing, id_of_path, metadata_file, settle
from avfeat.datasets.folder import walk
from avfeat.datasets.json_list import field_of, odd_value, read_object, read_objects
from avfeat.errors import ManifestError
from avfeat.manifest import DatasetInfo, Row, Segment
from avfeat.manifest_rules import name_five

ABOUT = DatasetInfo(
    "av1m",
    source="https://github.com/ControlNet/AV-Deepfake1M",
    licence="CC BY-NC 4.0, and the EULA of its authors",
)

LIST = "_metadata.json"
FOLDER = "_metadata"
LABELLED = ("train", "val")
HIDDEN = "_files.txt"

STREAMS = {"real": (0, 0), "audio_modified": (1, 0), "visual_modified": (0, 1), "both_modified": (1, 1)}
"""modify_type to (audio_label, video_label)."""

_RATE_HZ = 25.0


def read(root: Path, *, look: bool = True) -> Listing:
    """List the clips of each ``<split>_metadata.json`` and of each ``<split>_files.txt``, whose labels are hidden.

    Train or val without a list is read from the JSON files of its single clips: below ``<split>_metadata`` in the first
    edition, beside the clips in ++. Which clip such a file is of, its place tells. Splits are the official ones, by the
    names of files and folders. ``modify_type`` alone decides which stream is fake; the segments of an unmodified stream
    are empty whatever the lists say. Clips of ``_files.txt`` have null labels and segments. ``original`` is set where
    the clip was made from another clip of the release. What was unpacked to a doubled folder (``val/val``) is found.
    Without a probe, durations are the listed pictures at 25 Hz, as the authors' own reader has them.

    Args:
        root: the folder that holds the metadata and the folders of the splits.
        look: False lists every clip, whether its file is there or not.

    Raises:
        ManifestError: the metadata are missing or not as expected, or no clip is there.
    """
    lists, hidden = sorted(root.glob(f"*{LIST}")), sorted(root.glob(f"*{HIDDEN}"))
    rows = [row for path in lists for row in _labelled(path.name.removesuffix(LIST), _listed(path))]
    rows += [row for path in hidden for row in _hidden(path)]
    splits = {path.name.removesuffix(LIST).removesuffix(HIDDEN) for path in [*lists, *hidden]}
    notes = []
    for split, name in ((each, name) for each in LABELLED for name in (f"{each}{FOLDER}", each)):
        single = _labelled(split, _single(root / name)) if split not in splits and (root / name).is_dir() else []
        if single:
            rows += single
            splits.add(split)
            notes.append(f"{split} has no {split}{LIST}: its clips are those of the JSON files below {name}")
    if not splits:
        metadata_file(root, f"train{LIST}", f"val{LIST}", f"test{HIDDEN}")
    folders = {each.name for each in root.iterdir() if each.is_dir() and not each.name.endswith(FOLDER)}
    unread = sorted(folders - splits)
    if unread:
        notes.append(f"folders without metadata were left out: {name_five(unread)}")
    unknown = sum(row.label is None for row in rows)
    if unknown:
        notes.append(f"{unknown} listed clips have hidden labels: null")
    return settle(rows, notes, Disk.below(root) if look else None, _find)


def _listed(path: Path) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """Yield for each entry of a list where it is from, the clip's path below the split's folder, and the entry."""
    for entry in read_objects(path):
        yield path, field_of(path, entry, "file"), entry


def _single(folder: Path) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """Yield the same for each JSON file of one clip."""
    for name in sorted(walk(folder, suffixes=(".json",))):
        path = folder / name
        yield path, f"{name.removeprefix(f'{folder.name}/')[: -len('.json')]}.mp4", read_object(path)


def _labelled(split: str, entries: Iterable[tuple[Path, str, dict[str, Any]]]) -> list[Row]:
    rows: list[Row] = []
    sources: dict[int, str] = {}
    for path, file, entry in entries:
        try:
            row = _row(path, intern(split), file, entry)
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            raise odd_value(path, file, error) from error
        original = field_of(path, entry, "original")
        if original and row.label == 0:
            sources[len(rows)] = id_of_path(f"{split}/{original}")
        rows.append(row)
    # A real clip names its source in VoxCeleb2, which is no clip of this release, or the whole that it is a part of.
    ids = {row.clip_id for row in rows} if sources else set()
    for at, source in sources.items():
        if source in ids:
            rows[at] = replace(rows[at], original=source)
    return rows


def _row(path: Path, split: str, file: str, entry: dict[str, Any]) -> Row:
    # Their own reader compares with a hyphen where the lists have an underscore.
    kind = str(field_of(path, entry, "modify_type")).replace("-", "_")
    if kind not in STREAMS:
        raise ManifestError(f"{path}: {file} has modify_type {kind!r}; known are {', '.join(STREAMS)}.")
    audio, video = STREAMS[kind]
    fake = int(audio or video)
    original, pictures, sound = field_of(path, entry, "original"), entry.get("video_frames"), entry.get("audio_frames")
    models = [entry[name] for name in ("audio_model", "video_model") if entry.get(name)]
    listed = field_of(path, entry, "fake_segments")
    whole = _segments(listed) if fake else ()

    def of_stream(modified: int, name: str) -> tuple[Segment, ...] | None:
        """Return its segments; equal ones are one object, since a release has a million of them."""
        if not modified:
            return ()
        pairs = field_of(path, entry, name)
        return whole if pairs == listed else _segments(pairs)

    place = f"{split}/{file}"
    return Row(
        clip_id=id_of_path(place),
        path=place,
        split=split,
        label=fake,
        audio_label=audio,
        video_label=video,
        segments=whole,
        audio_segments=of_stream(audio, "audio_fake_segments"),
        video_segments=of_stream(video, "visual_fake_segments"),
        method=intern("+".join([kind, *models])),
        speaker=_speaker(file),
        original=id_of_path(f"{split}/{original}") if original and fake else None,
        duration_seconds=None if pictures is None else pictures / _RATE_HZ,
        fps=_RATE_HZ,
        source_frames=pictures,
        has_video=True,
        has_audio=None if sound is None else sound > 0,
    )


def _segments(pairs: list[Segment] | None) -> tuple[Segment, ...] | None:
    return None if pairs is None else tuple((float(start), float(end)) for start, end in pairs)


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
