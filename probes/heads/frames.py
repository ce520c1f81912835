"""Frames of a FeatureSet as networks read them: float32, of norm 1, one tensor for each feature."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor

from probes.featureset import FeatureSet
from probes.on_disk import Piece, as_one

Place = str | torch.device | None
"""A torch device; None: where the frames are."""


def part(data: FeatureSet, feature: int, rows: slice, device: Place) -> Tensor:
    """Return rows of one feature divided by their norms, float32 [rows, width]."""
    found = data.frames[rows, data.columns[feature]].to(device or data.device)
    return found.float() * data.inverse_norms[rows, feature, None].to(found.device)


def parts(data: FeatureSet, rows: slice, device: Place) -> list[Tensor]:
    """Return rows of all features, see ``part``."""
    return [part(data, feature, rows, device) for feature in range(len(data.features))]


def held(
    data: FeatureSet, pieces: Sequence[Piece], rows: Callable[[Piece], Sequence[slice]] = as_one
) -> Iterator[Piece]:
    """Yield pieces one by one; read the rows of each before the next step, for then they may be let go.

    rows: all that is read of a piece; without it, from its ``start`` to its ``stop``.
    """
    return chain.from_iterable(data.windows(pieces, rows))


def held_clips(data: FeatureSet, clips: Sequence[int]) -> Iterator[int]:
    """Yield clips as ``held`` yields pieces."""
    return chain.from_iterable(data.clip_windows(clips))


def score_rows(data: FeatureSet, most: int, score: Callable[[slice], Tensor]) -> Tensor:
    """Return the scores of all rows, float32 [rows] on the CPU, of at most ``most`` at a time."""
    # Not a list of parts: what is kept between one block and the next would cut up the memory that is free.
    scores = torch.empty(len(data.frames))
    for rows in held(data, blocks(len(data.frames), most)):
        scores[rows] = score(rows)
    return scores


def bounds(data: FeatureSet, clips: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first row of each of these clips and the row after its last."""
    starts = data.offsets.tolist()
    return [(starts[clip], starts[clip + 1]) for clip in clips]


def blocks(rows: int, most: int) -> list[slice]:
    """Cut rows 0 to ``rows`` into slices of at most ``most``."""
    return [slice(start, min(rows, start + most)) for start in range(0, rows, most)]
