"""VoxCeleb2: real clips of celebrities speaking, by person and YouTube video."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from avfeat.datasets.base import Disk, Listing, found_by_folder, id_of_path, settle
from avfeat.datasets.csv import records
from avfeat.errors import ManifestError
from avfeat.manifest import DatasetInfo, Row
from avfeat.manifest_rules import name_five

ABOUT = DatasetInfo(
    "voxceleb2",
    source="https://www.robots.ox.ac.uk/~vgg/data/voxceleb/",
    licence="metadata CC BY-SA 4.0; the videos belong to their makers",
)

PEOPLE = "vox2_meta.csv"
SPLITS = ("dev", "test")


def read(root: Path, *, look: bool = True, clips: Path | None = None) -> Listing:
    """List ``dev/mp4`` and ``test/mp4``, all real; the split is the folder, the speaker the folder below.

    Where ``vox2_meta.csv`` lies in ``root``, the notes tell how many of its people are there, and who lies in the
    wrong set.

    Args:
        root: the folder that holds ``dev`` and ``test``.
        look: False lists the clips of ``clips`` whether their files are there or not; without a list it says nothing.
        clips: a text file, or one packed by gzip, of one ``dev/mp4/<person>/<video>/<clip>`` a line: only these are
            listed, e.g. the English ones.

    Raises:
        ManifestError: the list is missing or not as expected, or no clip is there.
    """
    if clips is None:
        disk = Disk.below(root)
        named = sorted(path for path in disk.paths if _is_clip(path))
        if not named:
            raise ManifestError(f"{root} holds no video like dev/mp4/<person>/<video>/<clip>.mp4: is the root right?")
        rows = [_row(path) for path in named]
        listing = Listing(rows, folders=found_by_folder(rows))
    else:
        rows = [_row(path) for path in _names(clips)]
        listing = settle(
            rows, [], Disk.below(root) if look else None, folder_of=lambda path: path.partition("/mp4/")[0]
        )
    return replace(listing, notes=[*_notes_on_people(root / PEOPLE, listing.rows), *listing.notes])


def _names(file: Path) -> list[str]:
    """Return the paths that a list names."""
    try:
        data = file.read_bytes()
        text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ManifestError(f"{file} cannot be read as a list of clips: {error}.") from error
    paths = [f"{line.removesuffix('.mp4')}.mp4" for line in map(str.strip, text.splitlines()) if line]
    wrong = [path for path in paths if not _is_clip(path)]
    if wrong:
        raise ManifestError(
            f"{file} has {len(wrong)} lines unlike dev/mp4/<person>/<video>/<clip>, e.g. {name_five(wrong)}."
        )
    return sorted(set(paths))


def _is_clip(path: str) -> bool:
    parts = path.split("/")
    return len(parts) == 5 and parts[0] in SPLITS and parts[1] == "mp4" and path.endswith(".mp4")


def _row(path: str) -> Row:
    split, _, speaker, *_ = path.split("/")
    return Row(
        clip_id=id_of_path(path),
        path=path,
        split=split,
        label=0,
        audio_label=0,
        video_label=0,
        segments=(),
        audio_segments=(),
        video_segments=(),
        method="real",
        speaker=speaker,
    )


def _notes_on_people(file: Path, rows: list[Row]) -> list[str]:
    if not file.is_file():
        return []
    sets = _sets(file)
    here = {row.speaker or "": row.split for row in rows}
    notes = []
    for split in SPLITS:
        people = [name for name, listed in sets.items() if listed == split]
        found = sum(name in here for name in people)
        notes.append(f"{split}: {found} of the {len(people)} people in {PEOPLE} have clips here")
    wrong = sorted(name for name, split in here.items() if sets.get(name, split) != split)
    if wrong:
        notes.append(f"{len(wrong)} people lie in another set than {PEOPLE} says: {name_five(wrong)}")
    return notes


def _sets(file: Path) -> Mapping[str, str]:
    """Return the set of each person; one edition has ``VoxCeleb2 ID``, the other ``VoxCeleb2ID``."""
    people = records(file, ["Set"])
    name = next((column for column in people[0] if column.replace(" ", "") == "VoxCeleb2ID"), None)
    if name is None:
        raise ManifestError(f"{file} has no column VoxCeleb2 ID; it has {', '.join(people[0])}.")
    return {person[name]: person["Set"] for person in people}
