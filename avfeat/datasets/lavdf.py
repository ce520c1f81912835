"""LAV-DF: clips in which words were replaced in sound, in the pictures, or in both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avfeat.datasets.base import Disk, Listing, id_of_path, metadata_file, settle
from avfeat.datasets.json_list import field_of, odd_value, read_objects
from avfeat.manifest import DatasetInfo, Row
from avfeat.manifest_rules import name_five

ABOUT = DatasetInfo(
    "lavdf",
    source="https://github.com/ControlNet/LAV-DF",
    licence="CC BY-NC 4.0, its authors' conditions, and VoxCeleb2's terms",
)

_RATE_HZ = 25.0


def read(root: Path, *, look: bool = True) -> Listing:
    """List the clips of ``metadata.min.json`` or ``metadata.json``; splits are the official train, dev, test.

    Fake periods are given for the clip as a whole: each modified stream gets all of them, an unmodified one none. Who
    speaks is not told. Without a probe, media facts are the listed ones, which need not agree with each other.

    Args:
        root: the folder that holds the metadata and the folders of the splits.
        look: False lists every clip, whether its file is there or not.

    Raises:
        ManifestError: the metadata are missing or not as expected, or no clip is there.
    """
    path = metadata_file(root, "metadata.min.json", "metadata.json")
    rows: list[Row] = []
    odd: list[str] = []
    for entry in read_objects(path):
        try:
            row = _row(path, entry)
        except (TypeError, ValueError, AttributeError) as error:
            raise odd_value(path, entry.get("file"), error) from error
        rows.append(row)
        periods = len(row.segments or ())
        if entry.get("n_fakes", periods) != periods or (row.label == 1) != (periods > 0):
            odd.append(row.clip_id)
    notes = []
    if odd:
        notes.append(
            f"{len(odd)} clips whose fake periods contradict n_fakes or the modified streams: {name_five(odd)}"
        )
    return settle(rows, notes, Disk.below(root) if look else None)


def _row(path: Path, entry: dict[str, Any]) -> Row:
    file, original = field_of(path, entry, "file"), field_of(path, entry, "original")
    audio, video = int(field_of(path, entry, "modify_audio")), int(field_of(path, entry, "modify_video"))
    periods = tuple((float(start), float(end)) for start, end in field_of(path, entry, "fake_periods"))
    kinds = [name for name, modified in (("video", video), ("audio", audio)) if modified]
    return Row(
        clip_id=id_of_path(file),
        path=file,
        split=field_of(path, entry, "split"),
        label=int(audio or video),
        audio_label=audio,
        video_label=video,
        segments=periods,
        audio_segments=periods if audio else (),
        video_segments=periods if video else (),
        method="+".join(kinds) or "real",
        original=id_of_path(original) if original else None,
        duration_seconds=entry.get("duration"),
        fps=_RATE_HZ,
        source_frames=entry.get("video_frames"),
        has_video=True,
        has_audio=None if entry.get("audio_frames") is None else entry["audio_frames"] > 0,
    )
