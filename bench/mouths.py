"""How far other ways to cut the mouth are from the default: dlib's landmarks, and the detour through a lossy video.

Not a measurement of speed, so ``python -m bench`` leaves it out: it needs clips of real faces, and for dlib the extra
``avfeat[dlib]``. For each clip it prints one line of a Markdown table, and at last the medians:

px: how far the mouth's middle in one crop lies from that in the other, in pixels of the 96 x 96 crop.
grey: mean difference of the two crops in grey levels.
cosine: between the two features of a frame, by AV-HuBERT with random weights. Such features are alike whatever they
    see: the last column says how much, as the cosine between a clip's features and those of its pictures turned over.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from avfeat import crops
from avfeat.clip import Clip
from avfeat.encoders import build_encoder, resolve
from avfeat.encoders.avhubert.reencode import reencoded
from avfeat.encoders.base import ClipEncoder
from avfeat.errors import ClipError, NoFaceError
from avfeat.landmarks import Landmarker, Track, choose_track, fill_gaps
from avfeat.landmarks_dlib import DlibLandmarker, choose_last
from avfeat.timeline import RATE_HZ
from avfeat.views import MOUTH, MOUTH_COLOUR, ViewMaker, Views, ViewSettings
from probes.tables.markdown import table

Grey = NDArray[np.uint8]
"""Mouths, uint8 [T, 96, 96]."""

HEADS = (
    "clip",
    "frames",
    "faces",
    "dlib px, median",
    "px, 90 %",
    "grey",
    "cosine, median",
    "least",
    "re-encoded grey",
    "cosine, median",
    "least",
    "turned over",
)


SMALLER_IS_WORSE = ("cosine, median", "least")
"""Of these columns."""


@dataclass(frozen=True)
class Seen:
    """One clip's first seconds by both landmarkers: pictures uint8 RGB [T, height, width, 3]."""

    name: str
    pictures: NDArray[np.uint8]
    ours: Track
    dlib: Track

    def mouths(self, track: Track) -> tuple[Grey, NDArray[np.uint8]]:
        """Return the mouths in grey and in colour.

        Raises:
            NoFaceError: there is no face for longer than half a second.
        """
        views = frozenset({MOUTH, MOUTH_COLOUR})
        maker = ViewMaker(views, ViewSettings(), track, self.name, track.width_px, track.height_px)
        for failure in maker.failures.values():
            raise failure
        made = maker.make(self.pictures, 0)
        return made[MOUTH], made[MOUTH_COLOUR]


def look(path: Path, seconds: int, landmarker: Landmarker, dlib: DlibLandmarker) -> Seen:
    """Return the first ``seconds`` of a clip with the landmarks of both landmarkers.

    Raises:
        ClipError: it cannot be read or has no pictures.
    """
    with Clip(path, path.name, sound=False, block_frames=RATE_HZ) as clip:
        blocks = list(islice(clip.blocks(), seconds))
    pictures = np.concatenate(blocks)
    height, width = pictures.shape[1:3]
    ours = choose_track(landmarker.detect(pictures), width, height)
    return Seen(path.name, pictures, ours, choose_last(dlib.detect(pictures), width, height))


def apart(seen: Seen) -> NDArray[np.float64]:
    """Return for each frame how far MediaPipe's mouth lies from dlib's, in pixels of dlib's crop.

    What is compared is where the middle of one's window lies on the other's canvas, in a clip without cuts.
    """
    found = []
    for track in (seen.ours, seen.dlib):
        points = fill_gaps(track, clip_id=seen.name).points
        transforms = crops.mouth_transforms(points)
        found.append((transforms, crops.mouth_corners(points, transforms, MOUTH.size_px) + (MOUTH.size_px - 1) / 2))
    (ours, our_middles), (theirs, their_middles) = found
    here = crops.apply(crops.invert(ours), our_middles[:, None])
    distance: NDArray[np.float64] = np.linalg.norm(crops.apply(theirs, here)[:, 0] - their_middles, axis=1)
    return distance


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosine between the rows of both, [T]."""
    along = (one * other).sum(axis=1)
    found: NDArray[np.float32] = along / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
    return found


def levels(one: Grey, other: Grey) -> float:
    """Return the mean difference in grey levels."""
    return float(np.abs(one.astype(np.int16) - other).mean())


def compare(seen: Seen, encode: Callable[[Grey], NDArray[np.float32]]) -> list[float]:
    """Return one line of the table, from ``faces`` on; NaN for what dlib cannot give.

    Raises:
        NoFaceError: MediaPipe sees no face for too long.
    """
    grey, colour = seen.mouths(seen.ours)
    rows, lossy = encode(grey), reencoded(colour)
    try:
        theirs, _ = seen.mouths(seen.dlib)
        far, alike = apart(seen), cosines(rows, encode(theirs))
        by_dlib = [np.median(far), np.quantile(far, 0.9), levels(grey, theirs), np.median(alike), alike.min()]
    except NoFaceError:
        by_dlib = [np.nan] * 5
    again, turned = cosines(rows, encode(lossy)), cosines(rows, encode(grey[:, ::-1]))
    found = [seen.ours.faces.max(), *by_dlib, levels(grey, lossy), np.median(again), again.min(), np.median(turned)]
    return [float(each) for each in found]


def lines(paths: Sequence[Path], seconds: int, name: str) -> Iterator[tuple[str, int, list[float]]]:
    """Yield name, frames and numbers of each clip that shows a face; say on stderr why another one is left out."""
    (request,) = resolve([f"{name}-random.v"])
    encoder = cast(ClipEncoder, build_encoder(request))

    def encode(mouths: Grey) -> NDArray[np.float32]:
        result: Any = encoder.encode(Views(0, {MOUTH: np.ascontiguousarray(mouths)}), encoder.wanted)
        return cast(NDArray[np.float32], result[encoder.wanted[0]])

    with Landmarker() as landmarker, DlibLandmarker() as dlib:
        for path in paths:
            try:
                seen = look(path, seconds, landmarker, dlib)
                yield path.name, len(seen.pictures), compare(seen, encode)
            except ClipError as error:
                print(f"left out: {error}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds a clips.csv with a column path")
    parser.add_argument("--encoder", default="avhubert-base")
    parser.add_argument("--seconds", type=int, default=1, help="of each clip, from its start, whole ones")
    options = parser.parse_args()
    with (options.folder / "clips.csv").open(newline="", encoding="utf-8") as listing:
        paths = [options.folder / row["path"] for row in csv.DictReader(listing)]
    found = []
    for line in lines(paths, options.seconds, options.encoder):
        found.append(line)
        print(*line[:2], *(f"{each:.4g}" for each in line[2]), file=sys.stderr, flush=True)
    numbers = np.array([each for _, _, each in found])
    alone = numbers[numbers[:, 0] == 1]
    smaller = np.array([head in SMALLER_IS_WORSE for head in HEADS[2:]])
    worst = np.where(smaller, np.nanmin(alone, axis=0), np.nanmax(alone, axis=0))
    summary = [
        (f"median of {len(numbers)}", "", *np.nanmedian(numbers, axis=0)),
        (f"median of {len(alone)} with one face", "", *np.nanmedian(alone, axis=0)),
        ("worst of these", "", *worst[:-1], np.nan),
    ]
    rows = [(name, frames, *each) for name, frames, each in found] + summary
    print(table(HEADS, [(*row[:2], *map(cell, HEADS[2:], row[2:])) for row in rows]))


def cell(head: str, number: float) -> str:
    """Return a number of the table as its column has it."""
    if np.isnan(number):
        return ""
    decimals = 0 if head == "faces" else 4 if head in (*SMALLER_IS_WORSE, "turned over") else 2
    return f"{number:.{decimals}f}"


if __name__ == "__main__":
    main()
