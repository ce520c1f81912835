"""A map over a picture: the picture in grey, heat in colour, lines where the heat is half its highest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from avfeat.patches import PatchMap
from probes.explain.spatial import MAPS, probability
from probes.figures.style import INK, new_figure, save, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["shares", "gradcam"]

WORDS = {"shares": "patch shares", "gradcam": "GradCAM"}
_FOR, _AGAINST = (0.835, 0.369, 0.0), (0.0, 0.447, 0.698)
"""Vermilion for fake, blue against it: of Okabe and Ito's palette."""


def compose(maps: Sequence[PatchMap], title: str = "") -> Figure:
    """Return a figure of one row for each frame: the picture, its patch shares, its GradCAM."""
    height, width = maps[0].picture.shape[:2]
    figure = new_figure(9.6, 0.75 + len(maps) * (3.0 * height / width + 0.45))
    grid = figure.subplots(len(maps), 3, squeeze=False)
    for row, found in zip(grid, maps, strict=True):
        row[0].imshow(found.picture)
        words = f"{found.seconds:.2f} s, frame score {found.score:.2f}, probability {probability(found.score):.2f}"
        row[0].set_title(words, fontsize=8, color=INK, loc="left")
        row[0].set_axis_off()
        patches = f"patches {found.shares.sum():+.2f}, rest {sum(found.rest.values()):+.2f}"
        draw_heat(row[1], found, "shares")
        row[1].set_title(f"{WORDS['shares']}: {patches}", fontsize=8, color=INK, loc="left")
        draw_heat(row[2], found, "gradcam")
        row[2].set_title(WORDS["gradcam"], fontsize=8, color=INK, loc="left")
    figure.supxlabel(LEGEND, fontsize=7.5, color=INK)
    set_title(figure, title)
    return figure


LEGEND = (
    "Vermilion, solid line: speaks for fake. Blue, dashed line: speaks against. Lines where it is half its most. "
    "Circle: the highest patch."
)


def draw(maps: Sequence[PatchMap], path: Path, title: str = "") -> None:
    """Write ``compose``'s figure as the suffix of ``path`` says."""
    save(compose(maps, title), path)


def draw_heat(axes: Axes, found: PatchMap, kind: Kind) -> None:
    """Draw one map over its picture, with a ring where it is highest."""
    values = MAPS[kind](found)
    heat = found.on_frame(values)
    height, width = heat.shape
    grey = found.picture @ np.array([0.2126, 0.7152, 0.0722])
    axes.imshow(0.45 * grey + 115, cmap="Greys_r", vmin=0, vmax=255)
    most = float(np.abs(values).max())
    if most > 0:
        axes.imshow(_coloured(heat / most))
        for level, line in ((0.5, "solid"), (-0.5, "dashed")):
            # Between the middles of patches heat goes in straight lines, so every level up to the highest is met.
            if (heat.max() >= level * most) if level > 0 else (heat.min() <= level * most):
                axes.contour(heat, [level * most], colors=[INK], linewidths=0.9, linestyles=[line])
    x, y = found.highest(values)
    axes.plot([x * width - 0.5], [y * height - 0.5], "o", markersize=9, markerfacecolor="none", markeredgecolor="white")
    axes.plot([x * width - 0.5], [y * height - 0.5], "o", markersize=7, markerfacecolor="none", markeredgecolor=INK)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_axis_off()


def _coloured(heat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return RGBA [height, width, 4] of heat in -1 to 1, as opaque as it is strong."""
    colours = np.where(heat[..., None] >= 0, _FOR, _AGAINST)
    return np.concatenate([colours, 0.8 * np.abs(heat)[..., None]], axis=2)
