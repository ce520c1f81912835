"""A contact sheet: what the encoders see of one clip, as one picture for people to look at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from avfeat.clip import Clip
from avfeat.errors import ClipError
from avfeat.landmarks import Face, Landmarker, Track, choose_track
from avfeat.timeline import RATE_HZ
from avfeat.views import FACE, FRAME, MOUTH, View, ViewMaker, ViewSettings

GLIMPSES = 12
"""Frames on a sheet that ``draw_views`` makes."""

_CELL_PX, _GAP_PX, _LABEL_PX, _FONT_PX = 192, 6, 18, 13
_PAPER, _INK, _SEEN, _MISSING = "white", "black", (0, 220, 60), (150, 150, 150)


@dataclass(frozen=True)
class Glimpse:
    """One frame of a clip.

    picture: uint8 RGB [height, width, 3]; points: [68, 2] in its pixels, None where no face is followed; views: what
    was made of it.
    """

    seconds: float
    picture: NDArray[np.uint8]
    points: NDArray[np.float32] | None
    views: dict[View, NDArray[np.uint8]]


def contact_sheet(glimpses: Sequence[Glimpse], views: Sequence[View], notes: Sequence[str]) -> Image.Image:
    """Return the sheet: a column for each glimpse; the whole picture with its landmarks on top, a row for each view.

    Args:
        glimpses: at least one.
        views: the rows, in this order; grey where a glimpse lacks one.
        notes: lines of text above.
    """
    font = ImageFont.load_default(_FONT_PX)
    step = _CELL_PX + _GAP_PX
    top = _LABEL_PX * len(notes) + _GAP_PX
    width = max([step * len(glimpses) + _GAP_PX, *(round(font.getlength(note)) + 2 * _GAP_PX for note in notes)])
    sheet = Image.new("RGB", (width, top + (step + _LABEL_PX) * (1 + len(views)) + _GAP_PX), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for line, note in enumerate(notes):
        draw.text((_GAP_PX, _GAP_PX + line * _LABEL_PX), note, _INK, font)
    for column, glimpse in enumerate(glimpses):
        cells = [("", _with_points(glimpse)), *((view.kind, _cell(glimpse.views.get(view))) for view in views)]
        for row, (kind, cell) in enumerate(cells):
            x, y = _GAP_PX + column * step, top + row * (step + _LABEL_PX)
            draw.text((x, y), f"{glimpse.seconds:.2f} s {kind}", _INK, font)
            sheet.paste(cell, (x, y + _LABEL_PX))
    return sheet


def _with_points(glimpse: Glimpse) -> Image.Image:
    image = Image.fromarray(glimpse.picture)
    scale = _CELL_PX / max(image.size)
    image = image.resize((max(round(image.width * scale), 1), max(round(image.height * scale), 1)))
    if glimpse.points is not None:
        draw = ImageDraw.Draw(image)
        for x, y in ((glimpse.points + 0.5) * scale).tolist():
            draw.ellipse((x - 1, y - 1, x + 1, y + 1), _SEEN)
    cell = Image.new("RGB", (_CELL_PX, _CELL_PX), _PAPER)
    cell.paste(image, ((_CELL_PX - image.width) // 2, (_CELL_PX - image.height) // 2))
    return cell


def _cell(view: NDArray[np.uint8] | None) -> Image.Image:
    if view is None:
        return Image.new("RGB", (_CELL_PX, _CELL_PX), _MISSING)
    return Image.fromarray(view).convert("RGB").resize((_CELL_PX, _CELL_PX))


def draw_views(path: Path, out: Path, settings: ViewSettings, model: Path | None = None) -> None:
    """Write a contact sheet of ``frame``, ``face`` and ``mouth`` of twelve frames spread over a clip.

    Args:
        path: the clip.
        out: the picture to write; its suffix says the format.
        settings: how views are made.
        model: the landmarker's model file, if not the usual one.

    Raises:
        ClipError: the clip cannot be read or has no pictures. A view that fails is grey on the sheet, and said above.
        SetupError: the landmarker cannot start.
        WeightsError: its model file cannot be had.
    """
    with Clip(path, path.name, sound=False) as clip, Landmarker(model) as landmarker:
        faces: list[list[Face]] = []
        height = width = 0
        for block in clip.blocks():
            height, width = block.shape[1:3]
            faces += landmarker.detect(block)
        track = choose_track(faces, width, height)
        maker = ViewMaker(frozenset({FRAME, FACE, MOUTH}), settings, track, path.name, width, height)
        glimpses = _glimpses(clip, maker, track)
    contact_sheet(glimpses, (FRAME, FACE, MOUTH), _notes(path, track, list(maker.failures.values()))).save(out)


def _glimpses(clip: Clip, maker: ViewMaker, track: Track) -> list[Glimpse]:
    count = len(track.found)
    chosen = {math.floor((k + 0.5) * count / min(GLIMPSES, count)) for k in range(min(GLIMPSES, count))}
    glimpses = []
    start = 0
    for block in clip.blocks():
        for offset in range(len(block)):
            frame = start + offset
            if frame in chosen:
                views = {view: made[0] for view, made in maker.make(block[offset : offset + 1], frame).items()}
                points = track.points[frame] if track.found[frame] else None
                glimpses.append(Glimpse(frame / RATE_HZ, block[offset], points, views))
        start += len(block)
    return glimpses


def _notes(path: Path, track: Track, failures: Sequence[ClipError]) -> list[str]:
    count = len(track.found)
    facts = (
        f"{path.name}: {track.width_px} x {track.height_px}, {count} frames ({count / RATE_HZ:.2f} s), "
        f"the followed face seen in {track.found.sum()}, at most {track.faces.max(initial=0)} faces at once"
    )
    return [facts, *sorted({f"{failure.kind}: {failure}" for failure in failures})]
