"""What bars and curves are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from probes.intervals import Measure

MISSING = "no data"


@dataclass(frozen=True)
class Panel:
    """One part of a figure.

    places: along the axis.
    series: by name one number in percent for each place; None where it is missing.
    """

    title: str
    places: Sequence[str]
    series: Mapping[str, Sequence[Measure | None]]


def limits(panels: Sequence[Panel]) -> tuple[float, float]:
    """Return where the axis of all panels begins and ends: tens around all intervals and the 50 of a blind guess."""
    known = [each for panel in panels for line in panel.series.values() for each in line if each is not None]
    low = min([50.0, *(each.low for each in known)])
    high = max([60.0, *(each.high for each in known)])
    return 10 * math.floor(low / 10 - 0.01), 10 * math.ceil(high / 10)
