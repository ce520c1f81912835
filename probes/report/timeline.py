"""The drawing above which a clip plays: waveform, frame scores and fake segments on one time axis, as SVG paths.

All lines of a page share one scale: a score is drawn by how far it is from its probe's threshold, in parts of the
largest distance that its feature reaches on the page, so that clips can be compared and the threshold is at one height.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfeat.previews import PEAKS_HZ
from probes.report.content import Line, Segment, ShownClip

WIDTH, WAVE, SCORES = 1000.0, 44.0, 120.0
"""Units of the drawing: its width, and the heights of the waveform and of the scores below it."""

_MARGIN = 6.0
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60)
_MOST_TICKS = 8


@dataclass(frozen=True)
class Drawing:
    """Paths and places in the units above; tick places are in percent of the width.

    shades: for each fake stretch its left edge, width, and kind.
    wave: path of the waveform, empty without sound.
    lines: for each feature its path.
    ticks: place and text.
    zero: the height of the threshold.
    """

    shades: Sequence[tuple[float, float, str]]
    wave: str
    lines: Sequence[tuple[str, str]]
    ticks: Sequence[tuple[float, str]]
    zero: float


@dataclass(frozen=True)
class Scale:
    """How scores become heights on all drawings of a page.

    units: for each feature the largest distance from its threshold; 1 where there is none.
    low, high: the lowest and highest distance of all clips in these units, zero among them.
    """

    units: Mapping[str, float]
    low: float
    high: float

    @classmethod
    def of(cls, clips: Sequence[ShownClip]) -> Scale:
        """Return the scale of these clips together."""
        ends: dict[str, tuple[float, float]] = {}
        for line in (line for clip in clips for line in clip.lines):
            low, high = ends.get(line.feature, (0.0, 0.0))
            ends[line.feature] = (min(low, float(line.beyond.min())), max(high, float(line.beyond.max())))
        units = {feature: max(-low, high) or 1.0 for feature, (low, high) in ends.items()}
        low = min((ends[feature][0] / unit for feature, unit in units.items()), default=0.0)
        high = max((ends[feature][1] / unit for feature, unit in units.items()), default=0.0)
        return cls(units, low, high)

    def height(self, parts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the height, from the top, of scores in units."""
        room = (SCORES - 2 * _MARGIN) / ((self.high - self.low) or 1.0)
        return WAVE + _MARGIN + room * (self.high - parts)


def draw(clip: ShownClip, scale: Scale) -> Drawing:
    """Return the drawing of one clip."""
    across = WIDTH / clip.seconds
    kinds: dict[Segment, list[str]] = {}
    for kind, stretches in clip.segments.items():
        for start, end in stretches:
            if start < clip.seconds:
                kinds.setdefault((start, min(end, clip.seconds)), []).append(kind)
    shades = [(start * across, (end - start) * across, " + ".join(words)) for (start, end), words in kinds.items()]
    wave = _wave(clip.preview.peaks, across) if clip.preview is not None else ""
    lines = [(line.feature, _line(line, across, scale)) for line in clip.lines]
    return Drawing(shades, wave, lines, _ticks(clip.seconds), float(scale.height(np.zeros(1))[0]))


def _wave(peaks: NDArray[np.float32], across: float) -> str:
    if not len(peaks):
        return ""
    x = np.arange(len(peaks) + 1) / PEAKS_HZ * across
    y = WAVE / 2 * np.append(peaks, peaks[-1:])
    up = zip(x, WAVE / 2 - y, strict=True)
    down = zip(x[::-1], WAVE / 2 + y[::-1], strict=True)
    return _path([*up, *down]) + "Z"


def _line(line: Line, across: float, scale: Scale) -> str:
    heights = scale.height(line.beyond / scale.units[line.feature])
    return _path(list(zip(line.times * across, heights, strict=True)))


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _ticks(seconds: float) -> list[tuple[float, str]]:
    step = next((step for step in _TICKS if seconds / step <= _MOST_TICKS), seconds / _MOST_TICKS)
    count = int(seconds / step + 1e-9)
    return [(100 * k * step / seconds, f"{k * step:g} s") for k in range(count + 1)]
