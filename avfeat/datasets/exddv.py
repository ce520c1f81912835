"""ExDDV: people's words and clicks on what gives fakes of four other datasets away."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from avfeat.datasets.base import Disk, Listing, id_of_path, metadata_file, settle
from avfeat.datasets.csv import records
from avfeat.errors import ManifestError
from avfeat.manifest import DatasetInfo, Row
from avfeat.manifest_rules import name_five

ABOUT = DatasetInfo(
    "exddv",
    source="https://github.com/vladhondru25/ExDDV",
    licence="annotations CC BY-NC-SA 4.0; each video has the terms of its own dataset",
)

METADATA = "ExDDV.csv"

PLACES = {
    "Farceforensics++": ("FaceForensics++", "{manipulation}/{name}"),
    "Deeperforensics": ("DeeperForensics", "{manipulation}/c23/videos/{name}"),
    "DeepfakeDetection": ("DFDC", "{manipulation}/{name}"),
    "BioDeepAV": ("BioDeepAV", "{name}"),
    "Original": ("Original", "{name}"),
}
"""The dataset as the CSV spells it, to its folder in our ids and the path below that."""

_NEEDED = ("movie_name", "dataset", "manipulation", "split", "click_locations", "text", "difficulty")


@dataclass(frozen=True)
class Click:
    """Where somebody saw something wrong: frame number as the CSV has it, x and y as fractions from the top left.

    One of the published clicks has y a little above 1.
    """

    frame: int
    x: float
    y: float


@dataclass(frozen=True)
class Annotation:
    """What one person said of one clip: clicks in the order of their frames, words, difficulty 1 to 3."""

    clicks: tuple[Click, ...]
    text: str
    difficulty: int


def read(root: Path, *, look: bool = True) -> Listing:
    """List the clips of ``ExDDV.csv``, with its splits; all are fake in the picture, of the sound nothing is said.

    The videos are those of other datasets: each is looked for by its name at any depth below ``root``, in a folder
    named like its manipulation. Ids are ``<dataset>/<path of the authors' code>``. A clip annotated twice is one row.

    Args:
        root: the folder that holds the CSV and, at any depth, the videos.
        look: False lists every clip, whether its file is there or not.

    Raises:
        ManifestError: the CSV is missing or not as expected, a clip has two splits or two files, or no clip is there.
    """
    path = metadata_file(root, METADATA)
    rows: dict[str, Row] = {}
    again = []
    for line in records(path, _NEEDED):
        row = _row(path, line)
        if row.clip_id in rows:
            again.append(row.clip_id)
            if rows[row.clip_id] != row:
                raise ManifestError(f"{path} lists {row.clip_id} twice, with different splits.")
        rows[row.clip_id] = row
    notes = [f"{len(again)} annotated twice, listed once: {name_five(again)}"] if again else []
    disk = Disk.below(root) if look else None
    find = _finder(disk) if disk is not None else Disk.find
    return settle(list(rows.values()), notes, disk, find, _folder)


def read_annotations(root: Path) -> dict[str, list[Annotation]]:
    """Return what people said of each clip, by clip_id.

    Raises:
        ManifestError: the CSV is missing or not as expected.
    """
    path = metadata_file(root, METADATA)
    found = defaultdict(list)
    for line in records(path, _NEEDED):
        try:
            clicks = [
                Click(int(at), float(p["x"]), float(p["y"])) for at, p in json.loads(line["click_locations"]).items()
            ]
            said = Annotation(
                tuple(sorted(clicks, key=lambda click: click.frame)), line["text"], int(line["difficulty"])
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ManifestError(
                f"{path}: the clicks or the difficulty of {line['movie_name']} cannot be read."
            ) from None
        found[_row(path, line).clip_id].append(said)
    return dict(found)


def _row(path: Path, line: dict[str, str]) -> Row:
    if line["dataset"] not in PLACES:
        raise ManifestError(
            f"{path}: {line['movie_name']} is of dataset {line['dataset']!r}; known are {', '.join(PLACES)}."
        )
    folder, form = PLACES[line["dataset"]]
    below = form.format(manipulation=line["manipulation"], name=line["movie_name"])
    label = int(line["dataset"] != "Original")
    return Row(
        clip_id=id_of_path(f"{folder}/{below}"),
        path=f"{folder}/{below}",
        split=line["split"] or None,
        label=label,
        video_label=label,
        method=line["manipulation"] if label else "real",
    )


def _folder(path: str) -> str:
    return "/".join(path.split("/")[:2]) if path.count("/") > 1 else path.partition("/")[0]


def _finder(disk: Disk) -> Callable[[Disk, str], str | None]:
    by_name = defaultdict(list)
    for path in sorted(disk.paths):
        by_name[path.rpartition("/")[2]].append(path)

    def find(disk: Disk, path: str) -> str | None:
        """Take the place itself, else the one file of this name below a folder of this manipulation."""
        if path in disk.paths:
            return path
        _, *folders, name = path.split("/")
        fitting = [each for each in by_name[name] if not folders or folders[0] in each.split("/")[:-1]]
        if len(fitting) > 1:
            raise ManifestError(
                f"{path} could be any of {name_five(fitting)}: leave one of them below the root, e.g. one compression."
            )
        return fitting[0] if fitting else None

    return find
