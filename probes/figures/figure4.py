"""Figure 4: maps against human clicks: a few frames, and the error against how fake a frame must be called at least."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes.explain.clicks import FACE_CENTRE, FRAME_CENTRE, LEAST, METHODS, ClickError, Example, mean_error
from probes.explain.spatial import probability
from probes.figures.heat import LEGEND, WORDS, Kind, draw_heat
from probes.figures.style import COLOURS, DASHES, FAINT, INK, MARKERS, new_figure, plain, set_title, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "figure4"

PUBLISHED = {"all": 0.12, "surest": 0.08, FRAME_CENTRE: 0.117, FACE_CENTRE: 0.058}
"""The paper's MAE: CLIP's map over all clicks and over the surest frames (read off its curve), and its baselines."""


def draw(
    judged: Sequence[ClickError],
    folder: Path,
    name: str = NAME,
    examples: Sequence[Example] = (),
    kind: Kind = "shares",
    title: str = "",
    published: bool = True,
) -> list[Path]:
    """Write the figure.

    Args:
        judged: the clicks.
        examples: frames above the curve, drawn with the map ``kind``.
        published: whether the paper's numbers are drawn beside ours.
    """
    figure = new_figure(max(6.4, 2.5 * len(examples)), 3.4 + 2.4 * bool(examples))
    lower: Any = figure
    if examples:
        parts: Any = figure.subfigures(2, 1, height_ratios=[2.2, 3.2])
        upper, lower = parts
        for axes, example in zip(upper.subplots(1, len(examples), squeeze=False)[0], examples, strict=True):
            _draw_example(axes, example, kind)
        upper.supxlabel(f"{LEGEND} Cross: the click.", fontsize=7, color=INK)
    _draw_curve(lower.subplots(), judged, published)
    set_title(figure, title)
    return write(figure, folder, name)


def table(judged: Sequence[ClickError]) -> list[tuple[str, str, str, str]]:
    """Return rows of method, MAE, clicks, published MAE, beginning with their heads."""
    rows = [("method", "MAE", "clicks", "published")]
    published = {"shares": PUBLISHED["all"], "gradcam": PUBLISHED["all"]} | PUBLISHED
    for method in METHODS:
        mae, clicks = mean_error(judged, method)
        rows.append(
            (WORDS.get(method, method), "—" if math.isnan(mae) else f"{mae:.3f}", str(clicks), f"{published[method]}")
        )
    return rows


def _draw_example(axes: Axes, example: Example, kind: Kind) -> None:
    draw_heat(axes, example.found, kind)
    height, width = example.found.picture.shape[:2]
    at = ([example.click[0] * width - 0.5], [example.click[1] * height - 0.5])
    axes.plot(*at, "x", markersize=8, markeredgewidth=3.5, color="white")
    axes.plot(*at, "x", markersize=7, markeredgewidth=1.8, color=INK)
    axes.set_title(f"{example.clip_id}\nprobability {probability(example.found.score):.2f}", fontsize=7, color=INK)


def _draw_curve(axes: Axes, judged: Sequence[ClickError], published: bool) -> None:
    style: Mapping[str, dict[str, Any]] = {
        method: {"color": COLOURS[k], "linestyle": DASHES[k], "marker": MARKERS[k]} for k, method in enumerate(METHODS)
    }
    for method in METHODS:
        points = [(least, *mean_error(judged, method, least)) for least in LEAST]
        shown = [(least, mae) for least, mae, clicks in points if clicks]
        if shown:
            axes.plot(
                *zip(*shown, strict=True),
                label=WORDS.get(method, method),
                markersize=4,
                linewidth=1.4,
                **style[method],
            )
    if published:
        for method in (FRAME_CENTRE, FACE_CENTRE):
            axes.axhline(PUBLISHED[method], color=FAINT, linewidth=0.8, linestyle=(0, (1, 2)))
            axes.text(1.01, PUBLISHED[method], f"published\n{method}", fontsize=6.5, color=INK, va="center")
    counts = {least: mean_error(judged, FRAME_CENTRE, least)[1] for least in LEAST[::4]}
    axes.set_xticks(list(counts), [f"{least:g}\n{count}" for least, count in counts.items()])
    axes.set_xlim(-0.02, 1.0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("frames of at least this probability of fake, and how many clicks they have", fontsize=8, color=INK)
    axes.set_ylabel("mean absolute error", fontsize=8, color=INK)
    axes.legend(frameon=False, fontsize=7.5, ncols=2)
    plain(axes)
