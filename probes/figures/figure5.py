"""Figure 5: how alike the scores of features are, and what each gains by late fusion; two heat maps with numbers."""

from __future__ import annotations

import csv
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from avfeat.errors import ProbeError
from probes.complementarity import Complementarity
from probes.figures.style import INK, MINUS, ink_on, lightness, new_figure, set_title, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "figure5"

Published = Mapping[str, Mapping[tuple[str, str], float]]
"""Quantity (``correlation``, ``relative_improvement``) to (row, column) to a number in percent."""


def read_published(path: Path) -> Published:
    """Read the paper's numbers: a CSV of ``quantity,row`` and a column for each feature.

    Raises:
        ProbeError: the file is missing or of another form.
    """
    found: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                quantity, row = line.pop("quantity"), line.pop("row")
                found[quantity] |= {(row, column): float(value) for column, value in line.items()}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ProbeError(f"{path} does not hold the numbers of figure 5 ({error}).") from error
    return found


def draw(
    found: Complementarity, folder: Path, published: Published | None = None, title: str = "", name: str = NAME
) -> list[Path]:
    """Write both heat maps.

    Args:
        found: names are feature names as they are to be read on the axes.
        folder: gets a PNG, an SVG and a PDF.
        published: the paper's numbers, written in brackets below ours where both names are known.
        title: of the whole figure.
        name: of the files.
    """
    count = len(found.names)
    figure = new_figure(max(8.0, 3.0 + 1.5 * count), 1.6 + 0.62 * count)
    left, right = figure.subplots(1, 2)
    known = published or {}
    correlated, improved = known.get("correlation", {}), known.get("relative_improvement", {})
    _heat_map(left, 100 * found.correlation, found.names, found.names, correlated, 100.0, signed=False)
    left.set_title("Correlation of clip scores (percent)", fontsize=10, color=INK)
    with_auc = [f"{name}\nAUC {100 * auc:.1f}" for name, auc in zip(found.names, found.auc, strict=True)]
    most = max(100 * float(np.abs(found.gain).max()), 1.0)
    _heat_map(right, 100 * found.gain, found.names, with_auc, improved, most, signed=True)
    right.set_title("Gain by late fusion (% of the row's AUC)", fontsize=10, color=INK)
    right.set_ylabel("this feature …", color=INK, fontsize=9)
    right.set_xlabel("… fused with this one", color=INK, fontsize=9)
    if any(pair in improved for pair in itertools.product(found.names, repeat=2)):
        figure.supxlabel("In brackets: the published number.", fontsize=8, color=INK)
    set_title(figure, title)
    return write(figure, folder, name)


def _heat_map(
    axes: Axes,
    values: NDArray[np.float64],
    names: Sequence[str],
    rows: Sequence[str],
    published: Mapping[tuple[str, str], float],
    most: float,
    *,
    signed: bool,
) -> None:
    import matplotlib
    from matplotlib.colors import Normalize

    # Both maps go from light at zero to dark; where signs matter, in two colours and with a sign at every number.
    shades = matplotlib.colormaps["PuOr_r" if signed else "Blues"]
    scale = Normalize(-1.15 * most if signed else 0, 1.15 * most)
    axes.imshow(values, cmap=shades, norm=scale, aspect="auto")
    for i, row in enumerate(names):
        for j, column in enumerate(names):
            text = _number(values[i, j], signed)
            if (row, column) in published:
                text += f"\n({_number(published[row, column], signed)})"
            ink = ink_on(lightness(shades(scale(values[i, j]))))
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color=ink)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), rows)
    axes.tick_params(colors=INK, length=0, labelsize=8)
    for side in axes.spines.values():
        side.set_visible(False)


def _number(value: float, signed: bool) -> str:
    text = f"{value:+.1f}" if signed else f"{value:.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", MINUS)
