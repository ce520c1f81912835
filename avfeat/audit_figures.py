"""Figures of an audit: one for each shortcut, each kind of leak, for lengths that differ and segments that end late."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avfeat.audit import LENGTHS_DIFFER_SECONDS, Audit, Leak
from avfeat.audit_nuisance import WORDS, Nuisance

COLOURS = ("#0072B2", "#D55E00")
"""Of real and fake: blue and vermilion of Okabe and Ito, told apart with any colour vision; the lines differ too."""

LINES = ("-", "--")
CLASSES = ("real", "fake")
_MOST_NAMES = 8
_LONGEST_NAME = 40


def draw(audit: Audit, folder: Path) -> list[Path]:
    """Write one PNG for each finding that has something to show, and return their paths in the order of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = [(f"shortcut-{each.measure.replace('_', '-')}", _shortcut(audit, each)) for each in audit.shortcuts]
    figures += [(f"leak-{leak.kind}", _leak(audit, leak)) for leak in audit.leaks]
    measure = "length_difference_seconds"
    if any("differ in length" in each.what for each in audit.warnings):
        figures.append(("length-difference", _lengths(audit, audit.measures[measure])))
    if audit.overhangs:
        figures.append(("segments-outside", _overhangs(audit)))
    written = []
    for name, figure in figures:
        path = folder / f"{audit.manifest}-{name}.png"
        figure.savefig(path, dpi=150)
        written.append(path)
    return written


def _shortcut(audit: Audit, nuisance: Nuisance) -> Figure:
    figure, axes = _canvas()
    values = _by_class(audit, audit.measures[nuisance.measure])
    if nuisance.more:
        _cumulative(axes, values)
        axes.set_xlabel(f"{nuisance.name} ({nuisance.unit})")
        axes.set_ylabel("share of clips with at most this")
    else:
        _shares(axes, values)
        axes.set_xlabel(nuisance.name)
        axes.set_ylabel("share of clips")
    _title(axes, audit, f"{nuisance.name} alone tells real from fake with AUC {nuisance.auc:.2f}")
    return figure


def _leak(audit: Audit, leak: Leak) -> Figure:
    splits = sorted({split for pair in leak.between for split in pair})
    figure, axes = _canvas()
    counts = np.full((len(splits), len(splits)), np.nan)
    for (one, other), count in leak.between.items():
        row, column = sorted((splits.index(one), splits.index(other)), reverse=True)
        counts[row, column] = count
    axes.imshow(counts[1:, :-1], cmap="Oranges", vmin=0, vmax=2 * np.nanmax(counts))
    for row, column in np.argwhere(~np.isnan(counts)):
        axes.text(column, row - 1, f"{counts[row, column]:.0f}", ha="center", va="center", fontsize=14)
    axes.set_xticks(range(len(splits) - 1), splits[:-1])
    axes.set_yticks(range(len(splits) - 1), splits[1:])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    _title(axes, audit, f"{len(leak.names)} {leak.what.partition(',')[0]}", ": how many each two splits share")
    return figure


def _lengths(audit: Audit, differences: Sequence[float | None]) -> Figure:
    figure, axes = _canvas()
    _cumulative(axes, _by_class(audit, differences))
    for limit in (-LENGTHS_DIFFER_SECONDS, LENGTHS_DIFFER_SECONDS):
        axes.axvline(limit, color="0.5", linewidth=1, linestyle=":")
    axes.set_xlabel(f"{WORDS['length_difference_seconds'][0]} (s); dotted: where a clip is listed as odd")
    axes.set_ylabel("share of clips with at most this")
    _title(axes, audit, "sound and pictures of unequal length")
    return figure


def _overhangs(audit: Audit) -> Figure:
    figure, axes = _canvas()
    worst = sorted(audit.overhangs.items(), key=lambda each: -each[1])[:_MOST_NAMES]
    # The end of an id is what tells clips of one folder apart.
    names = [name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}" for name, _ in worst]
    axes.barh(range(len(worst)), [seconds for _, seconds in worst], 0.6, color=COLOURS[1])
    axes.set_yticks(range(len(worst)), names, fontsize=8)
    axes.set_ylim(max(len(worst), 4) - 0.5, -0.5)
    axes.set_xlabel("the last fake segment ends so long after the clip (s)")
    count = len(audit.overhangs)
    shown = f": the {_MOST_NAMES} furthest" if count > _MOST_NAMES else ""
    _title(axes, audit, f"{count} {'clip' if count == 1 else 'clips'} with segments after the end", shown)
    return figure


def _canvas() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _title(axes: Axes, audit: Audit, text: str, more: str = "") -> None:
    axes.set_title(f"{text}\n{audit.manifest}{more}", loc="left", fontsize=11)


def _by_class(audit: Audit, values: Sequence[Any]) -> list[list[Any]]:
    """Return the known values of real and of fake clips."""
    return [
        [value for value, label in zip(values, audit.labels, strict=True) if label == each and value is not None]
        for each in (0, 1)
    ]


def _cumulative(axes: Axes, values: Sequence[Sequence[float]]) -> None:
    """Draw for each class which share of its clips has at most each value: no bins that could hide a step."""
    ends = np.concatenate([np.asarray(each, float) for each in values if each])
    margin = 0.03 * float(np.ptp(ends)) or 1.0
    for each, name, colour, line in zip(values, CLASSES, COLOURS, LINES, strict=True):
        at = np.sort(np.asarray(each, float))
        at = np.concatenate([[ends.min() - margin], at, [ends.max() + margin]])
        share = np.concatenate([np.arange(len(each) + 1), [len(each)]]) / max(len(each), 1)
        axes.step(
            at, share, where="post", color=colour, linestyle=line, linewidth=2, label=f"{name} ({len(each)} clips)"
        )
    axes.set_ylim(-0.02, 1.02)
    axes.legend(frameon=False, loc="best")


def _shares(axes: Axes, values: Sequence[Sequence[str]]) -> None:
    names = [name for name, _ in Counter(name for each in values for name in each).most_common(_MOST_NAMES)]
    for at, (each, name, colour) in enumerate(zip(values, CLASSES, COLOURS, strict=True)):
        shares = [each.count(word) / max(len(each), 1) for word in names]
        places = np.arange(len(names)) + 0.4 * at - 0.2
        hatch = "//" if at else None
        axes.bar(
            places, shares, 0.38, color=colour, hatch=hatch, edgecolor="white", label=f"{name} ({len(each)} clips)"
        )
    axes.set_xticks(range(len(names)), names)
    axes.legend(frameon=False)
