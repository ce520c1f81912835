"""The cross-dataset table: one row for each feature, one column for each pair of training and test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from probes.intervals import Measure
from probes.tables.markdown import table

MISSING = "—"


@dataclass(frozen=True)
class Cell:
    """One probe on one test set: which feature, trained on what, tested on what, and how well it did."""

    feature: str
    train: str
    test: str
    measure: Measure


def cross_dataset(cells: Sequence[Cell], pairs: Sequence[tuple[str, str]]) -> str:
    """Return the table as Markdown, ``0.912 [0.801, 0.990]`` in a cell; features in the order of ``cells``.

    Args:
        cells: at most one for each feature and pair; one that is missing is drawn as a dash.
        pairs: (training set, test set), the columns from left to right.
    """
    known = {(cell.feature, cell.train, cell.test): cell.measure for cell in cells}
    features = list(dict.fromkeys(cell.feature for cell in cells))
    heads = ["feature", *(f"{train} → {test}" for train, test in pairs)]
    return table(heads, [[name, *(_text(known.get((name, *pair))) for pair in pairs)] for name in features])


def _text(measure: Measure | None) -> str:
    return MISSING if measure is None else f"{measure.value:.3f} [{measure.low:.3f}, {measure.high:.3f}]"
