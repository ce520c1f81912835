"""Clips of unequal length, end to end: cut into spans that fit a cache, and laid out as padded grids."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

PADDED_LIMIT = 4
"""A span ends before its padded grid would hold more than this many times the rows aimed at."""


@dataclass(frozen=True, eq=False)
class Span:
    """Consecutive clips ``first:last`` and their rows ``start:stop``; what only some ask for is made when they do.

    offsets: int64 [clips + 1], where each clip begins, counted as ``start`` is.
    """

    first: int
    last: int
    start: int
    stop: int
    offsets: Tensor

    @cached_property
    def lengths(self) -> Tensor:
        """Int64 [clips], frames of each clip."""
        return self.offsets.diff()

    @cached_property
    def grid(self) -> Tensor:
        """Int64 [clips * longest], the row (from ``start``) of each cell; ``stop - start`` stands for padding."""
        inside, steps = self._inside()
        return torch.where(inside, self.offsets[:-1, None] - self.start + steps, self.rows).reshape(-1)

    @cached_property
    def cells(self) -> Tensor:
        """Int64 [rows], the cell of each row: the way back."""
        return self._inside()[0].reshape(-1).nonzero()[:, 0]

    def _inside(self) -> tuple[Tensor, Tensor]:
        steps = torch.arange(int(self.lengths.max()), device=self.offsets.device)
        return steps < self.lengths[:, None], steps

    @property
    def rows(self) -> int:
        """Frames of all clips together."""
        return self.stop - self.start

    def lay_out(self, scores: Tensor) -> Tensor:
        """Return [clips, longest, probes] of scores [rows, probes]; padding is -inf."""
        padded = torch.cat([scores, scores.new_full((1, scores.shape[1]), -torch.inf)])
        return padded.index_select(0, self.grid).view(len(self.lengths), -1, scores.shape[1])

    def gather(self, grid: Tensor) -> Tensor:
        """Return [rows, probes] of a grid [clips, longest, probes]: the inverse of ``lay_out``."""
        return grid.reshape(-1, grid.shape[2]).index_select(0, self.cells)


def cut(offsets: Tensor, rows: int) -> list[Span]:
    """Cut clips into spans of at most ``rows`` rows; a longer clip is a span of its own.

    Args:
        offsets: int64 [clips + 1], where each clip begins, ending with the number of rows; no clip is empty.
        rows: rows aimed at.
    """
    starts = offsets.tolist()
    spans = []
    first = 0
    while first < len(starts) - 1:
        last, longest = first + 1, starts[first + 1] - starts[first]
        while last < len(starts) - 1:
            longest = max(longest, starts[last + 1] - starts[last])
            too_wide = (last + 1 - first) * longest > PADDED_LIMIT * rows
            if starts[last + 1] - starts[first] > rows or too_wide:
                break
            last += 1
        spans.append(Span(first, last, starts[first], starts[last], offsets[first : last + 1]))
        first = last
    return spans
