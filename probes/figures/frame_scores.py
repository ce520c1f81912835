"""Frame scores over time, one panel for each clip, with the fake segments shaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probes.figures.style import COLOURS, DASHES, FAINT, INK, SHADE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Segment = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One feature's frame scores, float [frames], at these times."""

    times_seconds: NDArray[Any]
    scores: NDArray[Any]


@dataclass(frozen=True)
class Panel:
    """One clip.

    title: what is written above it, e.g. its id and method.
    lines: by feature.
    segments: for each kind of manipulation its fake stretches in seconds; the kind is written into them.
    marks: other stretches worth a word, by that word; drawn as a bar at the foot.
    """

    title: str
    seconds: float
    lines: Mapping[str, Line]
    segments: Mapping[str, Sequence[Segment]] = field(default_factory=dict)
    marks: Mapping[str, Segment] = field(default_factory=dict)


def draw(
    panels: Sequence[Sequence[Panel]], path: Path, heads: Sequence[str], title: str = "", unit: str = "frame score"
) -> None:
    """Write a PNG: rows of panels, one head above each column, all over the same range of scores and seconds.

    Args:
        panels: [rows][columns].
        path: the file; its folder is made.
        heads: one for each column.
        title: of the whole figure.
        unit: what the scores are measured in.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = len(panels), len(heads)
    figure = Figure(figsize=(6.2 * columns, 1.0 + 2.05 * rows), dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    shown = [panel for across in panels for panel in across]
    scores = np.concatenate([line.scores for panel in shown for line in panel.lines.values()])
    low, high = float(scores.min()), float(scores.max())
    room = (high - low) * np.array([-0.16, 0.2])
    grid[0][0].set_ylim(low + room[0], high + room[1])
    grid[0][0].set_xlim(0, max(panel.seconds for panel in shown))
    for row, across in enumerate(panels):
        for column, panel in enumerate(across):
            axes = grid[row][column]
            _draw_panel(axes, panel)
            if row == 0:
                _head(axes, heads[column])
            if column == 0:
                axes.set_ylabel(unit, color=INK, fontsize=9.5)
            if row == rows - 1:
                axes.set_xlabel("seconds", color=INK)
    handles, names = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=11)
    if title:
        figure.suptitle(title, fontsize=13, color=INK, fontweight="bold")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    axes.axhline(0, color=FAINT, linewidth=0.8, zorder=1)
    inside = axes.get_xaxis_transform()
    for kind, stretches in panel.segments.items():
        for start, end in stretches:
            axes.axvspan(start, end, color=SHADE, linewidth=0, zorder=0)
            axes.text((start + end) / 2, 0.97, f"fake {kind}", transform=inside, ha="center", va="top", fontsize=9)
    for word, (start, end) in panel.marks.items():
        axes.plot([start, end], [0.05, 0.05], transform=inside, color=INK, linewidth=3, solid_capstyle="butt", zorder=4)
        axes.text(end + 0.03, 0.045, word, transform=inside, va="center", fontsize=9, color=INK, zorder=4)
    for number, (feature, line) in enumerate(panel.lines.items()):
        axes.plot(
            line.times_seconds,
            line.scores,
            label=feature,
            color=COLOURS[number % len(COLOURS)],
            linestyle=DASHES[number % len(DASHES)],
            linewidth=1.9,
            zorder=3,
        )
    axes.axvline(panel.seconds, color=FAINT, linewidth=0.8, linestyle=":", zorder=1)
    axes.set_title(panel.title, loc="left", fontsize=10.5, color=INK)
    axes.tick_params(colors=INK, length=3, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)


def _head(axes: Axes, text: str) -> None:
    axes.annotate(
        text,
        (0.5, 1.0),
        (0, 26),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="center",
        fontsize=12,
        fontweight="bold",
        color=INK,
        annotation_clip=False,
    )
