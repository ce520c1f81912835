"""The reliability diagram: how often clips are fake against how likely the probe says they are, before and after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from probes.calibration import Reliability
from probes.figures.style import COLOURS, DASHES, FAINT, HATCHES, INK, MARKERS, new_figure, plain, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(found: Mapping[str, Reliability], path: Path, title: str = "") -> None:
    """Write one diagram with a curve for each entry, and below it how many clips are in each bin.

    Args:
        found: name of a curve to its reliability; all with the same number of bins.
        path: a .png, .svg or .pdf.

    Raises:
        ProbeError: another suffix, or the file cannot be written.
    """
    figure = new_figure(4.6, 5.8)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, label="as often as stated")
    for number, (name, each) in enumerate(found.items()):
        _curve(upper, number, f"{name}: error {each.error:.3f}", each)
        _counts(lower, number, len(found), each)
    upper.set_ylabel("share of fakes", color=INK, fontsize=9)
    upper.set_ylim(-0.03, 1.03)
    upper.legend(frameon=False, fontsize=8, loc="upper left")
    lower.set_xlabel("stated probability of fake", color=INK, fontsize=9)
    lower.set_ylabel("clips", color=INK, fontsize=9)
    lower.set_xlim(-0.03, 1.03)
    if title:
        upper.set_title(title, fontsize=10, color=INK)
    for axes in (upper, lower):
        plain(axes)
    save(figure, path)


def _curve(axes: Axes, number: int, label: str, each: Reliability) -> None:
    filled = each.counts > 0
    axes.plot(
        each.stated[filled],
        each.found[filled],
        color=COLOURS[number],
        linestyle=DASHES[number],
        marker=MARKERS[number],
        markersize=4.5,
        linewidth=1.5,
        label=label,
        clip_on=False,
    )


def _counts(axes: Axes, number: int, of: int, each: Reliability) -> None:
    bins = len(each.counts)
    width = 0.9 / bins / of
    left = np.arange(bins) / bins + 0.05 / bins + number * width
    axes.bar(
        left,
        each.counts,
        width,
        align="edge",
        color=COLOURS[number],
        hatch=HATCHES[number],
        edgecolor="white",
        linewidth=0,
    )
