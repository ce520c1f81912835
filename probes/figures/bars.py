"""Bars side by side with their intervals, told apart by colour and hatch; several panels under one legend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probes.figures.panels import MISSING, Panel, limits
from probes.figures.style import COLOURS, FAINT, HATCHES, INK, new_figure, plain, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def compose(panels: list[Panel], unit: str, title: str = "") -> Figure:
    """Return a figure of one panel below the other; in each, the bars of all series at every place.

    Args:
        unit: what the numbers are, e.g. AUC in percent.
    """
    series = list(panels[0].series)
    places = max(len(panel.places) for panel in panels)
    figure = new_figure(max(5.0, 1.4 + places * (0.35 + 0.3 * len(series))), 0.9 + 2.2 * len(panels))
    grid: Any = figure.subplots(len(panels), 1, squeeze=False, sharey=True)[:, 0]
    low, high = limits(panels)
    width = 0.8 / len(series)
    for axes, panel in zip(grid, panels, strict=True):
        axes.axhline(50, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        for k, (name, measures) in enumerate(panel.series.items()):
            at = [place + (k + 0.5) * width - 0.4 for place in range(len(measures))]
            known = [(x, measure) for x, measure in zip(at, measures, strict=True) if measure is not None]
            axes.bar(
                [x for x, _ in known],
                [measure.value - low for _, measure in known],
                width=0.92 * width,
                bottom=low,
                label=name,
                color=COLOURS[k % len(COLOURS)],
                hatch=HATCHES[k % len(HATCHES)],
                edgecolor="white",
                linewidth=0.6,
                zorder=2,
            )
            for x, measure in known:
                axes.plot([x, x], [measure.low, measure.high], color=INK, linewidth=1.1, zorder=3)
            for x, found in zip(at, measures, strict=True):
                if found is None:
                    axes.text(x, low + 0.02 * (high - low), MISSING, ha="center", fontsize=7, color=INK)
        axes.set_xticks(range(len(panel.places)), panel.places)
        axes.set_xlim(-0.6, len(panel.places) - 0.4)
        axes.set_ylim(low, high + 0.03 * (high - low))
        axes.set_ylabel(unit, fontsize=8, color=INK)
        axes.set_title(panel.title, fontsize=9, color=INK, loc="left")
        plain(axes)
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=8)
    set_title(figure, title)
    return figure
