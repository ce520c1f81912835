"""Frames of a FeatureSet as networks read them: float32, of norm 1, one tensor for each feature."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from probes.featureset import FeatureSet

Place = str | torch.device | None
"""A torch device; None: where the frames are."""


def part(data: FeatureSet, feature: int, rows: slice, device: Place) -> Tensor:
    """Return rows of one feature divided by their norms, float32 [rows, width]."""
    found = data.frames[rows, data.columns[feature]].to(device or data.device)
    return found.float() * data.inverse_norms[rows, feature, None].to(found.device)


def parts(data: FeatureSet, rows: slice, device: Place) -> list[Tensor]:
    """Return rows of all features, see ``part``."""
    return [part(data, feature, rows, device) for feature in range(len(data.features))]


def bounds(data: FeatureSet, clips: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first row of each of these clips and the row after its last."""
    starts = data.offsets.tolist()
    return [(starts[clip], starts[clip + 1]) for clip in clips]


def blocks(rows: int, most: int) -> list[slice]:
    """Cut rows 0 to ``rows`` into slices of at most ``most``."""
    return [slice(start, min(rows, start + most)) for start in range(0, rows, most)]
