"""Do maps point to where people saw something wrong? The error of each map's highest place against human clicks.

Places are fractions of a picture's width and height. The error of a place is (|dx| + |dy|) / 2, so the mean of errors
is the mean absolute error over coordinates (MAE). Two baselines look at no score: the middle of the frame, and the
middle of the face.

Scores say how sure the probe is, so the MAE is also shown over the clicks in frames of at least a given probability.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avfeat.datasets.exddv import Annotation
from avfeat.errors import ClipError, ProbeError
from avfeat.manifest import Row
from avfeat.patches import PatchExplainer, PatchMap
from avfeat.timeline import RATE_HZ
from probes.explain.spatial import MAPS, probability

Place = tuple[float, float]

FRAME_CENTRE, FACE_CENTRE = "frame centre", "face centre"
METHODS = (*MAPS, FRAME_CENTRE, FACE_CENTRE)
LEAST = tuple(round(0.05 * k, 2) for k in range(20))
"""Probabilities from which on clicks are counted, for the curve."""


@dataclass(frozen=True)
class ClickError:
    """One click: where, in which frame, how fake the probe calls that frame, and the error of each method.

    frame: on the 25 Hz timeline. errors: by method; None where there is no face.
    """

    clip_id: str
    frame: int
    x: float
    y: float
    probability: float
    errors: Mapping[str, float | None]


@dataclass(frozen=True)
class Example:
    """A frame with its map and a click on it."""

    clip_id: str
    found: PatchMap
    click: Place


@dataclass(frozen=True)
class Failed:
    """A clip whose clicks could not be judged, and why in a sentence."""

    clip_id: str
    detail: str


def judge(
    explainer: PatchExplainer,
    rows: Sequence[Row],
    root: Path,
    annotations: Mapping[str, Sequence[Annotation]],
) -> Iterator[ClickError | Failed]:
    """Yield the error of every click on these clips, or why a clip has none.

    Args:
        rows: of the manifest; clips without clicks are passed over.
        root: the folder that their paths are relative to.
        annotations: by clip_id, as ``avfeat.datasets.exddv.read_annotations`` gives them.
    """
    for row in rows:
        clicks = [click for said in annotations.get(row.clip_id, ()) for click in said.clicks]
        if not clicks:
            continue
        if row.fps is None:
            yield Failed(
                row.clip_id, f"{row.clip_id}: its manifest does not say its frame rate; probe the media first."
            )
            continue
        frames = [frame_of(click.frame, row.fps, row.source_frames) for click in clicks]
        try:
            maps = {each.frame: each for each in explainer.explain(root / row.path, set(frames), face=True)}
        except ClipError as error:
            yield Failed(row.clip_id, str(error))
            continue
        for click, frame in zip(clicks, frames, strict=True):
            found = maps[frame]
            yield ClickError(
                row.clip_id, frame, click.x, click.y, probability(found.score), errors(found, (click.x, click.y))
            )


def frame_of(number: int, fps: float, source_frames: int | None) -> int:
    """Return the frame of the 25 Hz timeline on which source frame ``number`` is seen, counted from 0.

    The release does not say whether it counts from 0 or 1, so a number just past the last frame is the last.
    """
    if source_frames is not None and number == source_frames:
        number -= 1
    return math.floor(number * RATE_HZ / fps + 0.5)


def errors(found: PatchMap, click: Place) -> dict[str, float | None]:
    """Return the error of each of METHODS for one click."""
    places: dict[str, Place | None] = {name: found.highest(values(found)) for name, values in MAPS.items()}
    places |= {FRAME_CENTRE: (0.5, 0.5), FACE_CENTRE: found.face}
    return {name: None if place is None else error(place, click) for name, place in places.items()}


def error(place: Place, click: Place) -> float:
    """Return the mean of |dx| and |dy|."""
    return (abs(place[0] - click[0]) + abs(place[1] - click[1])) / 2


def mean_error(judged: Sequence[ClickError], method: str, least: float = 0.0) -> tuple[float, int]:
    """Return the MAE of a method over the clicks whose frame has at least this probability, and how many those are.

    NaN when there is none.
    """
    known = [each.errors[method] for each in judged if each.probability >= least]
    found = [each for each in known if each is not None]
    return (float(np.mean(found)) if found else math.nan), len(found)


_COLUMNS = ("clip_id", "frame", "x", "y", "probability", *METHODS)


def write_errors(path: Path, judged: Sequence[ClickError]) -> None:
    """Write one line for each click.

    Raises:
        ProbeError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            for each in judged:
                own = ["" if value is None else f"{value:.6f}" for value in (each.errors[name] for name in METHODS)]
                place = (f"{each.x:.6f}", f"{each.y:.6f}", f"{each.probability:.6f}")
                writer.writerow([each.clip_id, each.frame, *place, *own])
    except OSError as fault:
        raise ProbeError(f"{path} cannot be written: {fault.strerror}.") from fault


def read_errors(path: Path) -> list[ClickError]:
    """Read what ``write_errors`` wrote.

    Raises:
        ProbeError: the file is missing or of another form.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                ClickError(
                    line["clip_id"],
                    int(line["frame"]),
                    float(line["x"]),
                    float(line["y"]),
                    float(line["probability"]),
                    {name: float(line[name]) if line[name] else None for name in METHODS},
                )
                for line in csv.DictReader(file)
            ]
    except (OSError, KeyError, ValueError, TypeError) as fault:
        raise ProbeError(
            f"{path} does not hold the errors of clicks ({fault}); probes explain clicks makes it."
        ) from fault
