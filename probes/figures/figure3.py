"""Figure 3: frame scores and probabilities over time, fake stretches shaded, above the sound or the pictures of clips.

One column for each clip. Several probes share the panels, told apart by colour and dashes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from probes.explain.media import BANDS, Seen, band_of
from probes.explain.temporal import Trace
from probes.figures.style import COLOURS, DASHES, FAINT, INK, SHADE, new_figure, plain, set_title, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "figure3"

_KILOHERTZ = (0, 1, 2, 4, 8)
_LABELS = {"score": "frame score z", "probability": "probability sigmoid(2z)"}
_HEIGHTS = {"score": 1.5, "probability": 1.0}


@dataclass(frozen=True)
class Column:
    """One clip.

    traces: by the name of the probe, all of this clip.
    seen: its media; None where they could not be had, ``missing`` then says why.
    notes: sentences above it, e.g. its label and how well its fake stretches are found.
    """

    traces: Mapping[str, Trace]
    seen: Seen | None = None
    notes: Sequence[str] = field(default_factory=tuple)
    missing: str = ""

    @property
    def trace(self) -> Trace:
        """The first probe's."""
        return next(iter(self.traces.values()))

    @property
    def seconds(self) -> float:
        """How long the clip is, as far as is known."""
        ends = [float(each.times_seconds[-1]) + each.step_seconds / 2 for each in self.traces.values()]
        return max([*ends, self.seen.seconds if self.seen else 0.0])


def draw(
    columns: Sequence[Column], folder: Path, name: str = NAME, title: str = "", *, decision: bool = True
) -> list[Path]:
    """Write the figure; arguments as for ``compose``."""
    return write(compose(columns, title, decision=decision), folder, name)


def compose(columns: Sequence[Column], title: str = "", *, decision: bool = True) -> Figure:
    """Return the figure.

    Args:
        columns: one or more clips.
        title: of the whole figure.
        decision: draw the lines at score 0 and probability 0.5; False for probes that learn from real clips alone,
            whose scores have no such place.
    """
    upper = ["score", "probability"] if decision else ["score"]
    lower = max(len(_media(each)) for each in columns)
    ratios = [*(_HEIGHTS[each] for each in upper), *[0.9] * lower]
    figure = new_figure(0.7 + 3.3 * len(columns), 1.3 + 1.15 * sum(ratios))
    grid: Any = figure.subplots(len(ratios), len(columns), squeeze=False, sharex="col", height_ratios=ratios)
    scores = np.concatenate([trace.scores for each in columns for trace in each.traces.values()])
    low, high = min(float(scores.min()), 0.0), max(float(scores.max()), 0.0)
    room = 0.08 * max(high - low, 1e-3)
    words = max(len(_said(each)) for each in columns)
    for k, column in enumerate(columns):
        _draw_scores(grid[0, k], column, (low - room, high + room * (1 + 1.9 * words)), decision)
        if decision:
            _draw_probabilities(grid[1, k], column)
        below = [*_media(column), *[_draw_nothing] * lower][:lower]
        for axes, draw_media in zip(grid[len(upper) :, k], below, strict=True):
            draw_media(axes, column)
        grid[0, k].set_xlim(0, column.seconds)
        grid[-1, k].set_xlabel("seconds", fontsize=8, color=INK)
    for axes, what in zip(grid[:, 0], upper, strict=False):
        axes.set_ylabel(_LABELS[what], fontsize=8, color=INK)
    handles, names = grid[0, 0].get_legend_handles_labels()
    if len(names) > 1:
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=8)
    set_title(figure, title)
    return figure


def _media(column: Column) -> list[Callable[[Axes, Column], None]]:
    """Return what is drawn below the curves of a clip: its sound, its pictures, both, or why neither."""
    if column.seen is None:
        return [_draw_nothing] if column.missing else []
    sound = [_draw_mel] if column.seen.mel is not None else []
    return [*sound, *([_draw_pictures] if column.seen.pictures else [])]


def _draw_scores(axes: Axes, column: Column, limits: tuple[float, float], decision: bool) -> None:
    _shade(axes, column, words=True)
    for number, (name, trace) in enumerate(column.traces.items()):
        axes.plot(trace.times_seconds, trace.scores, label=name, **_line(number))
    if decision:
        axes.axhline(0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=2)
    axes.set_ylim(*limits)
    axes.set_title("\n".join([column.trace.clip_id, *column.notes]), loc="left", fontsize=8, color=INK)
    plain(axes)


def _draw_probabilities(axes: Axes, column: Column) -> None:
    _shade(axes, column, words=False)
    for number, trace in enumerate(column.traces.values()):
        axes.plot(trace.times_seconds, trace.probabilities, **_line(number))
    axes.axhline(0.5, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=2)
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([0, 0.5, 1])
    plain(axes)


def _draw_mel(axes: Axes, column: Column) -> None:
    assert column.seen is not None and column.seen.mel is not None
    mel = column.seen.mel
    axes.imshow(
        mel, origin="lower", aspect="auto", cmap="Greys", extent=(0, mel.shape[1] / 100, 0, BANDS), interpolation="none"
    )
    axes.set_yticks([band_of(1000 * each) for each in _KILOHERTZ], [str(each) for each in _KILOHERTZ])
    axes.set_ylabel("kHz (mel)", fontsize=8, color=INK)
    plain(axes)


def _draw_pictures(axes: Axes, column: Column) -> None:
    assert column.seen is not None
    axes.set_yticks([])
    plain(axes)
    axes.spines["left"].set_visible(False)
    for seconds, picture in column.seen.pictures:
        inset = axes.inset_axes((seconds / column.seconds - 0.16, 0.0, 0.32, 0.92))
        inset.imshow(picture, interpolation="antialiased")
        inset.set_axis_off()
        inset.set_anchor("S")
        axes.plot([seconds], [1.0], transform=axes.get_xaxis_transform(), marker="v", color=INK, markersize=4)


def _draw_nothing(axes: Axes, column: Column) -> None:
    axes.set_yticks([])
    plain(axes)
    axes.spines["left"].set_visible(False)
    axes.text(
        0.5, 0.5, column.missing, transform=axes.transAxes, ha="center", va="center", fontsize=7, color=INK, wrap=True
    )


def _shade(axes: Axes, column: Column, *, words: bool) -> None:
    inside = axes.get_xaxis_transform()
    for row, (stretches, text) in enumerate(_said(column).items()):
        for start, end in stretches:
            axes.axvspan(start, end, color=SHADE, linewidth=0, zorder=0)
            for edge in (start, end):
                axes.axvline(edge, color=FAINT, linewidth=0.6, zorder=1)
        if words:
            middle = sum(stretches[0]) / 2
            axes.text(middle, 0.98 - 0.11 * row, text, transform=inside, ha="center", va="top", fontsize=7, color=INK)


def _said(column: Column) -> dict[tuple[tuple[float, float], ...], str]:
    """Return fake stretches within the clip, and what is written into the first of them."""
    found: dict[tuple[tuple[float, float], ...], list[str]] = {}
    for kind, stretches in column.trace.kinds.items():
        own = tuple((start, min(end, column.seconds)) for start, end in stretches if start < column.seconds)
        if own:
            found.setdefault(own, []).append(kind)
    return {own: "fake" if kinds == ["fake"] else f"fake {' and '.join(kinds)}" for own, kinds in found.items()}


def _line(number: int) -> dict[str, Any]:
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": DASHES[number % len(DASHES)],
        "linewidth": 1.4,
        "zorder": 3,
    }
