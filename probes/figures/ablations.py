"""Figures of the ablations: which of a protocol's grids is drawn how, and the numbers of its panels.

=================  =======================================================  =======================================
kind               a grid whose                                             drawn as
=================  =======================================================  =======================================
pooling            columns differ in their probes' pooling                  bars of the poolings for each row
size               columns differ in their probes' share of training clips  lines over the share, one for each row
layers             rows are ``NAME, …`` and read different layers           lines over the layer, one for each name
variants           rows are ``NAME`` or ``NAME, …``, e.g. random, trimmed   bars of the variants for each name
=================  =======================================================  =======================================
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from avfeat.errors import ProbeError
from probes.figures import bars, curves
from probes.figures.panels import Panel
from probes.intervals import Measure
from probes.protocol import Column, Protocol, Row
from probes.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["pooling", "size", "layers", "variants"]

UNIT = {"auc": "AUC (%)", "ap": "average precision (%)", "eer": "equal error rate (%)"}
PLAIN = "as published"
"""The variant of a row without a comma: the encoder as its authors give it."""

LAST = "last"


def kind_of(protocol: Protocol) -> Kind | None:
    """Return how a table's numbers are drawn; None for one that is best read as a table."""
    recipes = [protocol.recipe(column) for column in _tested(protocol)]
    if len({recipe.share for recipe in recipes}) > 1:
        return "size"
    pools = {str(recipe.settings["pool"]) for recipe in recipes if "pool" in recipe.settings}
    if len(pools) > 1 and len({recipe.head for recipe in recipes}) == 1:
        return "pooling"
    names = {row.name for row in protocol.rows}
    bases = [_split(row)[0] for row in protocol.rows]
    if len(set(bases)) == len(names):
        return None
    return "layers" if any("@" in feature for row in protocol.rows for feature in row.features) else "variants"


def compose(protocol: Protocol, results: Results) -> Figure:
    """Return the figure of a protocol that was run.

    Raises:
        ProbeError: it is none of the kinds above, was not run, or has not one number; says what is missing.
    """
    kind = kind_of(protocol)
    if kind is None:
        raise ProbeError(f"{protocol.name} is a table and has no figure.")
    panels = _PANELS[kind](protocol, results)
    if not any(each for panel in panels for line in panel.series.values() for each in line):
        reasons = dict.fromkeys(reason for cell in results.of(protocol.name) for reason in cell.reasons)
        raise ProbeError(f"{protocol.name} has not one number to draw: {'; '.join(reasons) or 'it was not run'}")
    unit = UNIT[protocol.metric]
    if kind == "size":
        return curves.compose(panels, unit, "share of the training clips", protocol.title)
    if kind == "layers":
        return curves.compose(panels, unit, "layer", protocol.title)
    return bars.compose(panels, unit, protocol.title)


def _tested(protocol: Protocol) -> list[Column]:
    return [column for column in protocol.columns if not column.mean_of]


def _measure(protocol: Protocol, results: Results, row: Row | None, column: Column) -> Measure | None:
    """Return one number in percent; None where there is none."""
    cell = results.cell(protocol.name, row.name, column.name) if row else None
    found = cell.measures.get(protocol.metric) if cell and cell.status == "done" else None
    return None if found is None else Measure(100 * found.value, 100 * found.low, 100 * found.high)


def _by_test(protocol: Protocol) -> dict[tuple[str, str], list[Column]]:
    """Return the columns of each pair of training and test set."""
    found: dict[tuple[str, str], list[Column]] = {}
    for column in _tested(protocol):
        assert column.train is not None and column.test is not None
        found.setdefault((column.train, column.test), []).append(column)
    return found


def _pooling(protocol: Protocol, results: Results) -> list[Panel]:
    panels = []
    for (train, test), columns in _by_test(protocol).items():
        series = {
            str(protocol.recipe(column).settings.get("pool")): [
                _measure(protocol, results, row, column) for row in protocol.rows
            ]
            for column in columns
        }
        panels.append(Panel(f"{train} → {test}", [row.name for row in protocol.rows], series))
    return panels


def _size(protocol: Protocol, results: Results) -> list[Panel]:
    panels = []
    for (train, test), columns in _by_test(protocol).items():
        ordered = sorted(columns, key=lambda column: protocol.recipe(column).share)
        shares = [f"{100 * protocol.recipe(column).share:g} %" for column in ordered]
        series = {row.name: [_measure(protocol, results, row, column) for column in ordered] for row in protocol.rows}
        panels.append(Panel(f"{train} → {test}", shares, series))
    return panels


def _layers(protocol: Protocol, results: Results) -> list[Panel]:
    rows: dict[str, dict[str, Row]] = {}
    for row in protocol.rows:
        rows.setdefault(_split(row)[0], {})[_layer(row)] = row
    places = sorted({layer for own in rows.values() for layer in own}, key=_layer_order)
    return [
        Panel(
            column.head,
            places,
            {
                base: [_measure(protocol, results, own.get(layer), column) for layer in places]
                for base, own in rows.items()
            },
        )
        for column in protocol.columns
    ]


def _variants(protocol: Protocol, results: Results) -> list[Panel]:
    rows = {_split(row): row for row in protocol.rows}
    bases, variants = (list(dict.fromkeys(each[k] for each in rows)) for k in (0, 1))
    return [
        Panel(
            column.head,
            bases,
            {
                variant: [_measure(protocol, results, rows.get((base, variant)), column) for base in bases]
                for variant in variants
            },
        )
        for column in protocol.columns
    ]


_PANELS: dict[Kind, Callable[[Protocol, Results], list[Panel]]] = {
    "pooling": _pooling,
    "size": _size,
    "layers": _layers,
    "variants": _variants,
}


def _split(row: Row) -> tuple[str, str]:
    base, _, variant = row.name.partition(", ")
    return base, variant or PLAIN


def _layer(row: Row) -> str:
    match = re.search(r"@(\d+)", row.features[0]) if row.features else None
    return match[1] if match else LAST


def _layer_order(layer: str) -> tuple[bool, int]:
    return layer == LAST, 0 if layer == LAST else int(layer)
