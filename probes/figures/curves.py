"""Lines over something that grows, with intervals; told apart by colour, dashes and markers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probes.figures.panels import Panel, limits
from probes.figures.style import COLOURS, DASHES, FAINT, INK, MARKERS, new_figure, plain, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure


ACROSS = 3
"""Panels side by side."""


def compose(panels: list[Panel], unit: str, along: str, title: str = "") -> Figure:
    """Return a figure of up to three panels side by side; places stand at equal distances.

    Args:
        unit: what the numbers are, e.g. AUC in percent.
        along: what the places are, e.g. share of the training clips.
    """
    columns = min(len(panels), ACROSS)
    rows = -(-len(panels) // columns)
    figure = new_figure(max(5.0, 0.8 + 2.9 * columns), 1.0 + 2.6 * rows)
    every: Any = figure.subplots(rows, columns, squeeze=False, sharey=True)
    grid = every.ravel()
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    low, high = limits(panels)
    for axes, panel in zip(grid, panels, strict=False):
        axes.axhline(50, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        count = len(panel.series)
        for k, (name, measures) in enumerate(panel.series.items()):
            # A little apart, so that one interval does not hide another.
            shift = 0.06 * (k - (count - 1) / 2)
            known = [(place + shift, each) for place, each in enumerate(measures) if each is not None]
            x, values = [at for at, _ in known], [each.value for _, each in known]
            reach = [
                [max(each.value - each.low, 0.0) for _, each in known],
                [max(each.high - each.value, 0.0) for _, each in known],
            ]
            axes.errorbar(
                x,
                values,
                yerr=reach,
                label=name,
                color=COLOURS[k % len(COLOURS)],
                linestyle=DASHES[k % len(DASHES)],
                marker=MARKERS[k % len(MARKERS)],
                markersize=5,
                linewidth=1.4,
                elinewidth=0.9,
                capsize=2,
                zorder=3,
            )
        axes.set_xticks(range(len(panel.places)), panel.places)
        axes.set_xlim(-0.4, len(panel.places) - 0.6)
        axes.set_ylim(low, high + 0.03 * (high - low))
        axes.set_xlabel(along, fontsize=8, color=INK)
        axes.set_title(panel.title, fontsize=9, color=INK, loc="left")
        plain(axes)
    for axes in every[:, 0]:
        axes.set_ylabel(unit, fontsize=8, color=INK)
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 3), frameon=False, fontsize=8)
    set_title(figure, title)
    return figure
