"""FakeAVCeleb v1.2: one real clip of each of 500 people, and fakes of sound, pictures or both, in folders by type."""

from __future__ import annotations

from pathlib import Path

from avfeat.datasets.base import Disk, Listing, id_of_path, metadata_file, settle
from avfeat.datasets.csv import records
from avfeat.errors import ManifestError
from avfeat.manifest import DatasetInfo, Row
from avfeat.manifest_rules import name_five

ABOUT = DatasetInfo(
    "favc",
    "1.2",
    source="https://github.com/DASH-Lab/FakeAVCeleb",
    licence="by request from the authors, for research, under the terms of their form",
)

METADATA = "meta_data.csv"

TYPES = {
    "RealVideo-RealAudio": (0, 0),
    "RealVideo-FakeAudio": (1, 0),
    "FakeVideo-RealAudio": (0, 1),
    "FakeVideo-FakeAudio": (1, 1),
}
"""Folder to (audio_label, video_label)."""


def read(root: Path, *, look: bool = True) -> Listing:
    """List the clips of ``meta_data.csv``, either edition, that lie below ``root``; no splits, for none are official.

    A clip is fake unless both of its streams are real. Nothing says where in a fake the forged part lies, so the
    segments of a forged stream are null, those of a real one empty. ``speaker`` is the person on screen, ``original``
    their real clip where the fake's name begins with its name. Race folders may be spelt ``Asian_East`` as well as
    ``Asian (East)``; ids have the metadata's spelling. A clip that is listed with two methods is one row, both named.

    Args:
        root: the folder that holds the metadata and the folders of the four types.
        look: False lists every clip, whether its file is there or not.

    Raises:
        ManifestError: the metadata are missing or not as expected, or no clip is there.
    """
    path = metadata_file(root, METADATA)
    methods: dict[str, list[str]] = {}
    speakers: dict[str, str] = {}
    for line in records(path, ["source", "method", "type", "path"]):
        clip = _path(path, line)
        methods.setdefault(clip, [])
        if line["method"] not in methods[clip]:
            methods[clip].append(line["method"])
        speakers[clip] = line["source"]
    reals: dict[str, list[str]] = {}
    for clip, speaker in speakers.items():
        if clip.startswith("RealVideo-RealAudio/"):
            reals.setdefault(speaker, []).append(clip)
    rows = [_row(clip, speakers[clip], found, reals.get(speakers[clip], [])) for clip, found in methods.items()]
    notes = []
    twice = sorted(clip for clip, found in methods.items() if len(found) > 1)
    if twice:
        notes.append(f"{len(twice)} clips are listed with two methods, both are named: {name_five(twice)}")
    orphans = [row.path for row in rows if row.label == 1 and row.original is None]
    if orphans:
        notes.append(f"{len(orphans)} fakes name no real clip of their person: original null: {name_five(orphans)}")
    return settle(rows, notes, Disk.below(root) if look else None, Disk.find_spelt)


def _path(file: Path, line: dict[str, str]) -> str:
    """Return the clip's path below the root; the release's own header has the file name under ``path``."""
    folder, name = (line["path"], line["filename"]) if "filename" in line else (line.get("", ""), line["path"])
    _, slash, below = folder.strip("/").partition("/")
    if not slash or line["type"] not in TYPES or not below.startswith(line["type"]) or "/" in name or not name:
        raise ManifestError(
            f"{file} lists a clip in folder {folder!r} with file {name!r} and type {line['type']!r}; expected a file "
            f"name, a folder such as FakeAVCeleb/<type>/..., and one of the types {', '.join(TYPES)}."
        )
    return f"{below}/{name}"


def _row(clip: str, speaker: str, methods: list[str], reals: list[str]) -> Row:
    audio, video = TYPES[clip.partition("/")[0]]
    stem = id_of_path(clip).rpartition("/")[2]
    original = None
    if audio or video:
        fitting = [real for real in map(id_of_path, reals) if stem.startswith(f"{real.rpartition('/')[2]}_")]
        original = max(fitting, key=len, default=None)
    return Row(
        clip_id=id_of_path(clip),
        path=clip,
        label=int(audio or video),
        audio_label=audio,
        video_label=video,
        segments=None if audio or video else (),
        audio_segments=None if audio else (),
        video_segments=None if video else (),
        method="|".join(methods),
        speaker=speaker,
        original=original,
    )
