"""How all figures look, and how they are written: the same bytes from the same numbers, in three formats.

Lines differ in colour, in dashes and in markers, bars in colour and in hatches, so that no figure needs its colours: it
can be read in grey print and by people of any colour vision.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avfeat.errors import ProbeError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette: told apart by people of any colour vision, and in grey by their order of lightness."""

DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P")
HATCHES = ("", "//", "..", "xx", "\\\\", "++")

SHADE, INK, FAINT = "#E4E0D4", "#22262B", "#8A9099"

MINUS = "\N{MINUS SIGN}"

FORMATS = ("png", "svg", "pdf")

_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "probes",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "hatch.linewidth": 0.6,
}
_UNDATED: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def new_figure(width: float, height: float) -> Figure:
    """Return an empty white figure, inches wide and high, laid out so that nothing overlaps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=200, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write the figure as ``folder/name.png``, ``.svg`` and ``.pdf``; see ``save``."""
    paths = [folder / f"{name}.{kind}" for kind in FORMATS]
    for path in paths:
        save(figure, path)
    return paths


def save(figure: Figure, path: Path) -> None:
    """Write the figure in the format that the suffix names; the same figure always gives the same bytes.

    Raises:
        ProbeError: another suffix, or the file cannot be written.
    """
    import matplotlib

    kind = check_suffix(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(_SETTINGS):
            figure.savefig(path, format=kind, metadata=_UNDATED[kind])
    except OSError as error:
        raise ProbeError(f"The figure cannot be written to {path}: {error.strerror}.") from error


def check_suffix(path: Path) -> str:
    """Return the format that a file's suffix names.

    Raises:
        ProbeError: it is none of ours.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise ProbeError(f"{path}: a figure's name ends in .{', .'.join(FORMATS)}.")
    return kind


def set_title(figure: Figure, title: str) -> None:
    """Write a title above the whole figure, in as many lines as its width asks for; nothing for an empty one."""
    if title:
        lines = textwrap.wrap(title, max(20, int(10.5 * figure.get_figwidth())))
        figure.suptitle("\n".join(lines), fontsize=10.5, color=INK, fontweight="bold")


def plain(axes: Axes) -> None:
    """Leave of the frame only what is an axis, with ticks that do not shout."""
    axes.tick_params(colors=INK, length=3, labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)


def ink_on(grey: float) -> str:
    """Return the colour of writing on a ground of this lightness, 0 black to 1 white."""
    return INK if grey > 0.5 else "white"


def lightness(colour: Sequence[float]) -> float:
    """Return how light red, green and blue between 0 and 1 look, 0 to 1 (Rec. 709 luma)."""
    red, green, blue = colour[:3]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
