"""The two matrix products of a linear probe, in the layouts that are fastest on a processor.

Measured with the BLAS of PyTorch's wheels on x86 (2 cores, rows of 1024): a product of a tall matrix with one vector
runs on one core only, a batch of two halves on both (48 against 81 µs for 1024 rows); a product with 2 to 8 columns is
up to 8 times slower than with the same numbers as rows of a transposed matrix; the backward product of 32 probes takes
448 against 753 µs. On CUDA the same calls are plain products.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

SMALL = 1 << 20
"""Multiplications below which a second thread gains nothing, and loses much where the cores are shared."""


@contextmanager
def threads_for(multiplications: int) -> Iterator[None]:
    """Run PyTorch on one thread while the products are small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if multiplications < SMALL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def forward(rows: Tensor, weights: Tensor) -> Tensor:
    """Return rows [n, width] · weightsᵀ [probes, width] as [n, probes]."""
    if len(weights) > 1:
        return rows @ weights.T
    batches, even = _batches(rows)
    if batches == 1:
        return torch.mv(rows, weights[0])[:, None]
    scores = rows.new_empty(len(rows), 1)
    parts = rows[:even].reshape(batches, -1, rows.shape[1]).mT
    torch.bmm(weights.expand(batches, 1, -1), parts, out=scores[:even].view(batches, 1, -1))
    if even < len(rows):
        scores[even:] = rows[even:] @ weights.T
    return scores


def backward(rows: Tensor, shares: Tensor, out: Tensor) -> None:
    """Add sharesᵀ [probes, n] · rows [n, width] to ``out`` [probes, width]."""
    batches, even = _batches(rows)
    if batches == 1:
        out.addmm_(shares.T, rows)
        return
    parts = rows[:even].reshape(batches, -1, rows.shape[1])
    out += torch.bmm(shares[:even].reshape(batches, -1, shares.shape[1]).mT, parts).sum(0)
    if even < len(rows):
        out += shares[even:].T @ rows[even:]


def _batches(rows: Tensor) -> tuple[int, int]:
    """Into how many equal batches to cut, and how many rows these hold together."""
    batches = 1 if rows.is_cuda else max(1, min(torch.get_num_threads(), len(rows)))
    return batches, len(rows) // batches * batches
